"""Backward recurrences bounded: against PyTorch run on each chunk with its right context, at several lengths."""

import numpy as np
import pytest
import torch
from rewriting import LENGTHS, assert_close, assert_streams, built, feeds_of, rewritten, support
from speechc.compiler.capture import capture
from speechc.compiler.manager import evaluate64
from speechc.ir.errors import UnsupportedError, UsageError
from torch import nn

LAYERS = {
    "lstm": lambda **k: nn.LSTM(3, 4, **k),
    "lstm, projected": lambda **k: nn.LSTM(3, 4, proj_size=2, **k),
    "lstm, no biases": lambda **k: nn.LSTM(3, 4, bias=False, **k),
    "gru": lambda **k: nn.GRU(3, 4, **k),
    "gru, no biases": lambda **k: nn.GRU(3, 4, bias=False, **k),
    "rnn": lambda **k: nn.RNN(3, 4, **k),
    "rnn, relu": lambda **k: nn.RNN(3, 4, nonlinearity="relu", **k),
}
# (pass, chunk, right)
BOUNDS = [
    ("bidirectional{chunk=4, right=2}", 4, 2),
    ("bidirectional{chunk=3}", 3, 0),
    ("bidirectional{chunk=2, right=5}", 2, 5),
    ("bidirectional{mode='forward'}", 1, 0),
]


def crossed(names):
    """(name, pass, chunk, right) of every layer with every bound; the quick loop has each, but not each pair."""
    for i, name in enumerate(names):
        for j, bound in enumerate(BOUNDS):
            marks = [] if i % len(BOUNDS) == j else [pytest.mark.slow]
            yield pytest.param(name, *bound, id=f"{name}-{bound[0]}", marks=marks)


class Recurrent(nn.Module):
    def __init__(self, layer, start=None):
        super().__init__()
        self.layer, self.start = layer, start

    def forward(self, x):
        return self.layer(x, self.start)[0]


def captured(name, batch=1, start=None):
    torch.manual_seed(0)
    model = Recurrent(LAYERS[name](bidirectional=True, batch_first=True), start).eval()
    return model, capture(model, {"x": torch.randn(batch, 9, 3)}, 1)


def by_chunk(model, x, chunk, right):
    """Forward outputs of the whole; backward ones of each chunk, from the layer run on the chunk and what follows."""
    whole = model(x)
    half = whole.shape[2] // 2
    back = [
        model(x[:, at : at + chunk + right])[:, :chunk, half:] for at in range(0, x.shape[1], chunk)
    ]  # run backwards from the end of what it is given
    return torch.cat([whole[:, :, :half], torch.cat(back, 1)], 2)


@pytest.mark.parametrize("name, text, chunk, right", list(crossed(LAYERS)))
def test_chunks_start_from_what_follows_them(name, text, chunk, right):
    model, module = captured(name, batch=2)
    after, remarks = rewritten(module, text)
    assert [r.kind for r in remarks] == ["applied"]
    model.double()
    for length in LENGTHS:
        x = feeds_of(module, length)["x"]
        with torch.no_grad():
            want = by_chunk(model, torch.from_numpy(x).double(), chunk, right).numpy()
        # The column that holds a carry is rounded to float32.
        assert_close(evaluate64(after, {"x": x})[0], want, 1e-7)


def test_one_direction_alone_sees_its_chunk_and_right_context():
    zero = np.zeros((1, 4), np.float32)
    random = np.random.default_rng(0)
    w, r, b = (random.standard_normal(s).astype(np.float32) for s in ((16, 3), (16, 4), 16))

    def build(g, x):
        h = g.weight("h", zero)
        return g.lstm(x, h, h, g.weight("w", w), g.weight("r", r), g.weight("b", b), reverse=True)[0]

    module = built((1, "T", 3), build)
    after, _ = rewritten(module, "bidirectional{chunk=4, right=2}")
    sees = support(after, feeds_of(module, 14), "x", 1)
    for i, j in np.ndindex(14, 14):
        assert sees[i, j] == (i <= j < i // 4 * 4 + 6)
    assert support(module, feeds_of(module, 14), "x", 1)[0].all()
    after, _ = rewritten(module, "bidirectional{mode='forward'}")
    assert (support(after, feeds_of(module, 14), "x", 1) == np.eye(14, dtype=bool)).all()


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_a_carry_given_by_the_model_is_the_first(kind):
    """It sees frames of zeros beyond the end."""
    torch.manual_seed(1)
    start = torch.randn(2, 1, 4)
    model, module = captured(kind, start=(start, torch.randn(2, 1, 4)) if kind == "lstm" else start)
    after, remarks = rewritten(module, "bidirectional{chunk=4, right=2}")
    assert {r.kind for r in remarks} == {"applied", "note"}
    alone, _ = rewritten(module, "bidirectional{mode='forward'}")
    model.double()
    model.start = tuple(s.double() for s in model.start) if kind == "lstm" else model.start.double()
    for length in LENGTHS:
        x = feeds_of(module, length)["x"]
        filled = np.pad(x, ((0, 0), (0, -length % 4 + 2), (0, 0)))
        with torch.no_grad():
            back = [model(torch.from_numpy(filled[:, a : a + 6]).double())[:, :4, 4:] for a in range(0, length, 4)]
            frames = [model(torch.from_numpy(x[:, [t]]).double())[:, :, 4:] for t in range(length)]
        assert_close(evaluate64(after, {"x": x})[0][:, :, 4:], torch.cat(back, 1)[:, :length].numpy(), 1e-7)
        assert_close(evaluate64(alone, {"x": x})[0][:, :, 4:], torch.cat(frames, 1).numpy(), 1e-7)


def test_flips_around_a_recurrence():
    class Flipped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.GRU(3, 4, batch_first=True)

        def forward(self, x):
            return self.layer(x.flip(1))[0].flip(1)

    torch.manual_seed(0)
    model = Flipped().eval()
    module = capture(model, {"x": torch.randn(1, 9, 3)}, 1)
    after, _ = rewritten(module, "bidirectional{chunk=4, right=2}")
    assert not any(op.kind == "flip" for op in after.main.ops)
    model.double()
    for length in LENGTHS:
        x = feeds_of(module, length)["x"]
        with torch.no_grad():
            parts = [model(torch.from_numpy(x[:, a : a + 6]).double())[:, :4] for a in range(0, length, 4)]
        assert_close(evaluate64(after, {"x": x})[0], torch.cat(parts, 1).numpy(), 1e-7)


@pytest.mark.parametrize("name, text, chunk, right", list(crossed(["lstm", "gru, no biases", "rnn"])))
def test_bounded_recurrences_stream(name, text, chunk, right):
    assert_streams(captured(name)[1], text, chunk=2 * chunk)


def test_what_is_left_alone_says_why():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.LSTM(3, 4, bidirectional=True, batch_first=True)

        def forward(self, x):
            y, (h, _) = self.layer(x)
            return y, h

    module = capture(Last().eval(), {"x": torch.randn(1, 9, 3)}, 1)
    after, remarks = rewritten(module, "bidirectional")
    assert str(after) == str(module)
    assert [r.kind for r in remarks] == ["missed"] and "carry" in remarks[0].message
    _, module = captured("gru")
    with pytest.raises(UsageError, match="SC020"):
        rewritten(module, "bidirectional{mode='backward'}")
    with pytest.raises(UnsupportedError, match="SC212") as error:
        rewritten(module, "simplify", "free-batch", "bidirectional")
    assert "batch" in str(error.value) and "--bidirectional forward" in str(error.value)
    rewritten(module, "simplify", "free-batch", "bidirectional{mode='forward'}")


def test_a_duration_is_a_whole_number_of_frames():
    def build(g, x):
        half = g.slice(x, axis=1, start=0, stop=x.type.sizes[1], step=2)
        zeros = lambda *s: g.weight("z", np.zeros(s, np.float32))
        return g.rnn(half, zeros(1, 4), zeros(4, 3), zeros(4, 4), reverse=True)[0]

    module = built((1, "T", 3), build)
    for wrong in ("chunk=3", "chunk=4, right=1"):
        with pytest.raises(UnsupportedError, match="SC212") as error:
            rewritten(module, f"bidirectional{{{wrong}}}")
        assert "net.layer" in str(error.value) and "a multiple of 2 ticks" in str(error.value)

"""What scripts carry from call to call becomes states: small scripts, and Silero VAD against its authors' own file.

The test of Silero VAD wants its package: `pip install --no-deps silero-vad` (it needs nothing of it but two files).
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
import speechc
import torch
from scripted import Wrapped, assert_close, save
from speechc.compiler.capture import capture, capture_with_reference
from speechc.ir.errors import CaptureError
from speechc.ir.interpreter import initial_states, run
from torch import Tensor, nn

AUDIO = Path(__file__).parent.parent / "examples" / "digits" / "audio"

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Context(nn.Module):
    """A buffer, started by forward when it is empty; a flag that settles; an attribute that is only written."""

    def __init__(self):
        super().__init__()
        self.last: Tensor = torch.zeros(0)
        self.batch = 0
        self.seen: Tensor = torch.zeros(0)

    def forward(self, x):
        if self.batch and self.batch != x.shape[0]:
            self.last = torch.zeros(0)
        if not len(self.last):
            self.last = torch.full((x.shape[0], 4), 0.5)
        y = torch.cat([self.last, x], dim=1)
        self.last = y[:, -4:]
        self.batch = x.shape[0]
        self.seen = y
        return y.cumsum(1)[:, 4:]


class Recurrent(nn.Module):
    """A recurrent state that is None before the first call."""

    state: Optional[tuple[Tensor, Tensor]]  # noqa: UP045  TorchScript reads this form

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 6, batch_first=True)
        self.state = None

    def forward(self, x):
        y, self.state = self.rnn(x, self.state)
        return y


class Exchange(nn.Module):
    """Two delays, one the other's source; the file's own start values; a list; a write in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(1, 8))
        self.two: Tensor = torch.full((1, 8), 2.0)
        self.many = [torch.zeros(1, 8), torch.ones(1, 8)]
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        out = self.one + 2 * self.two + 3 * self.many[0] + 4 * self.many[1] + self.count
        self.two = self.one
        self.one = x
        self.many = [self.many[1], x * 0.5]
        self.count += 1
        return out


@pytest.mark.parametrize(
    ("make", "size", "states"),
    [
        (Context, 8, {"last": 0.5}),
        pytest.param(Recurrent, (5, 8), {"state_0": 0, "state_1": 0}, marks=pytest.mark.slow),
        (Exchange, 8, {"one": 1, "two": 2, "many_0": 0, "many_1": 1, "count": 0}),
    ],
)
def test_attributes_become_states(make, size, states, tmp_path):
    torch.manual_seed(0)
    path = save(make().eval(), tmp_path / "m.pt")
    shape = (1, size) if isinstance(size, int) else (1, *size)
    module, reference = capture_with_reference(path, [f"x=f32{list(shape)}".replace(" ", "")])
    now = initial_states(module.main)
    assert {n: float(x.flat[0]) for n, x in now.items()} == states
    script = torch.jit.load(str(path))
    fed, wanted = [], []
    for k in range(6):
        x = np.random.default_rng(k).standard_normal(shape, dtype=np.float32)
        with torch.no_grad():
            want = script(torch.from_numpy(x)).numpy()
        (got,) = run(module.main, {"x": x}, now)
        assert_close(want, got)
        fed.append({"x": x})
        wanted.append(want)
    assert_close(np.stack(wanted), reference(*fed)[0])  # carried from call to call
    x = np.ones(shape, np.float32)
    assert_close(reference({"x": x})[0], reference({"x": x})[0])  # each from the file's state
    assert_close(reference({"x": x})[0], run(module.main, {"x": x}, initial_states(module.main))[0])


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = 0

    def forward(self, x):
        self.n += 1
        return x * self.n


class Grows(nn.Module):
    def __init__(self):
        super().__init__()
        self.past = torch.zeros(1, 0)

    def forward(self, x):
        self.past = torch.cat([self.past, x], 1)
        return self.past.sum(1)


@pytest.mark.parametrize(("make", "words"), [(Counts, "inner.n .*every call"), (Grows, "inner.past .*shape")])
def test_what_no_state_can_hold(make, words, tmp_path):
    path = save(Wrapped(make()), tmp_path / "m.pt")
    with pytest.raises(CaptureError, match=words) as error:
        capture(path, ["x=f32[1,8]"])
    assert error.value.code == "SC405"


class Starts(nn.Module):
    """Starts from something that no attribute ever holds."""

    last: Optional[Tensor]  # noqa: UP045

    def __init__(self):
        super().__init__()
        self.last = None

    def forward(self, x):
        last = self.last
        y = x + 3 if last is None else x + last
        self.last = x
        return y


def test_a_start_that_is_not_found_is_refused(tmp_path):
    with pytest.raises(CaptureError, match="starts in a way that was not found") as error:
        capture(save(Starts(), tmp_path / "m.pt"), ["x=f32[1,8]"])
    assert error.value.code == "SC405"


# -- Silero VAD --------------------------------------------------------------------------------------------------------


def speech() -> np.ndarray:
    """Recordings of digits at 8 kHz, brought to 16 kHz by interpolation, with pauses between, in a little noise.

    In exact digital silence magnitudes of the spectrum are zero and rounding decides: there the authors' own two files
    differ by 2e-5 from each other.
    """
    sf = pytest.importorskip("soundfile")
    parts = []
    for file in sorted(AUDIO.glob("*.wav"))[:3]:
        x, rate = sf.read(file, dtype="float32")
        assert rate == 8000
        parts += [np.interp(np.arange(2 * len(x)) / 2, np.arange(len(x)), x), np.zeros(8000)]
    audio = np.concatenate(parts)
    audio = (audio + 1e-3 * np.random.default_rng(0).standard_normal(len(audio))).astype(np.float32)
    return audio[: len(audio) // 512 * 512].reshape(-1, 1, 512)


@pytest.mark.slow
def test_silero_vad_chunk_by_chunk(tmp_path):
    found = find_spec("silero_vad")
    if found is None:
        pytest.skip("Silero VAD is not installed: pip install --no-deps silero-vad")
    onnxruntime = pytest.importorskip("onnxruntime")
    data = Path(found.origin).parent / "data"
    module, reference = capture_with_reference(data / "silero_vad.jit", ["x=f32[1,512]", "sr=16000"])
    assert {n: tuple(s.type.sizes) for n, s in module.main.states.items()} == {
        "_context": (1, 64), "_state": (2, 1, 128),
    }  # fmt: skip
    assert {op.loc.path for op in module.main.ops} >= {
        "_model.stft", "_model.encoder.3.reparam_conv", "_model.decoder.rnn",
    }  # fmt: skip
    theirs = onnxruntime.InferenceSession(data / "silero_vad.onnx", providers=["CPUExecutionProvider"])
    speechc.compile(data / "silero_vad.jit", ["x=f32[1,512]", "sr=16000"], output=tmp_path / "vad.onnx")
    emitted = onnxruntime.InferenceSession(tmp_path / "vad.onnx", providers=["CPUExecutionProvider"])
    carried = {i.name: np.zeros(i.shape, np.float32) for i in emitted.get_inputs() if i.name != "x"}
    now, state, context = initial_states(module.main), np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32)
    chunks, probabilities = speech(), []
    want = run(module.main, {"x": chunks[20]}, dict(now))[0]
    assert np.abs(reference({"x": chunks[20]})[0] - want).max() <= 1e-5  # of a probability; from the file's state
    for chunk in chunks:
        x = np.concatenate([context, chunk], 1)
        want, state = theirs.run(None, {"input": x, "state": state, "sr": np.array(16000, np.int64)})
        context = x[:, -64:]
        (got,) = run(module.main, {"x": chunk}, now)
        assert np.abs(want - got).max() <= 1e-5 and np.abs(now["_state"] - state).max() <= 1e-4
        file, *left = emitted.run(None, {"x": chunk, **carried})
        carried = dict(zip(carried, left, strict=True))
        assert np.abs(want - file).max() <= 1e-5
        probabilities.append(float(got[0, 0]))
    assert min(probabilities) < 0.1 and max(probabilities) > 0.9  # there is speech in it, and silence

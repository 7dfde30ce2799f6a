"""Attention, recurrent layers and transforms of signals: what is captured of them equals eager PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from captured import compare
from torch import nn


def heads(x, n=2):
    return x.unflatten(2, (n, -1)).transpose(1, 2)


ATTENTION = {
    "plain": lambda x: F.scaled_dot_product_attention(heads(x), heads(x), heads(x)),
    "causal": lambda x: F.scaled_dot_product_attention(heads(x), heads(x), heads(x), is_causal=True),
    "scale": lambda x: F.scaled_dot_product_attention(heads(x), heads(x), heads(x), scale=0.3),
    "no heads": lambda x: F.scaled_dot_product_attention(x, x, x),
    "cross": lambda x: F.scaled_dot_product_attention(heads(x), heads(x[:, ::2]), heads(x[:, ::2])),
    "bool mask": lambda x: F.scaled_dot_product_attention(
        heads(x), heads(x), heads(x), attn_mask=torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(1)
    ),
    "float mask": lambda x: F.scaled_dot_product_attention(
        heads(x), heads(x), heads(x), attn_mask=torch.arange(x.shape[1])[None].float() * -0.1
    ),
    "chunks": lambda x: F.scaled_dot_product_attention(
        heads(x), heads(x), heads(x),
        attn_mask=torch.arange(x.shape[1])[:, None] // 4 >= torch.arange(x.shape[1])[None] // 4,
    ),
    "grouped": lambda x: F.scaled_dot_product_attention(
        heads(x, 4), heads(x[..., :4]), heads(x[..., 4:]), enable_gqa=True
    ),
}  # fmt: skip


COMMON = ("cross", "bool mask", "chunks", "grouped")  # what the quick loop has


@pytest.mark.parametrize("name", [n if n in COMMON else pytest.param(n, marks=pytest.mark.slow) for n in ATTENTION])
def test_attention(name):
    compare(ATTENTION[name], (2, "T", 8))


class Multihead(nn.Module):
    def __init__(self, how, **options):
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(8, 2, **options)
        self.how = how

    def forward(self, x0):
        return self.how(self.attention, x0)


MULTIHEAD = {
    "plain": (lambda a, x: a(x, x, x), {}),
    "batch first": (lambda a, x: a(x, x, x, need_weights=False)[0], {"batch_first": True}),
    "every head's weights": (lambda a, x: a(x, x, x, average_attn_weights=False), {"batch_first": True}),
    "zero and bias rows": (
        lambda a, x: a(x, x, x)[0], {"batch_first": True, "add_zero_attn": True, "add_bias_kv": True},
    ),
    "causal": (
        lambda a, x: a(x, x, x, attn_mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]), is_causal=True,
                       need_weights=False)[0], {"batch_first": True},
    ),
    "hidden keys": (
        lambda a, x: a(x, x, x, key_padding_mask=torch.arange(x.shape[1])[None] > 3)[0], {"batch_first": True},
    ),
    "other keys": (lambda a, x: a(x, x[:, ::2, :4], x[:, ::2, 2:])[0], {"batch_first": True, "kdim": 4, "vdim": 6}),
}  # fmt: skip


@pytest.mark.parametrize("name", MULTIHEAD)
@pytest.mark.slow
def test_multihead_attention(name):
    how, options = MULTIHEAD[name]
    compare(Multihead(how, **options).eval(), (1, "T", 8))


@pytest.mark.parametrize("batch_first", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda m: m.__name__)
def test_recurrent_states(make, batch_first):
    """Bidirectional, two layers, batch of 3: outputs and last states."""
    torch.manual_seed(0)
    rnn = make(5, 4, num_layers=2, bidirectional=True, batch_first=batch_first)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = rnn

        def forward(self, x0):
            y, last = self.rnn(x0)
            return (y, *last) if isinstance(last, tuple) else (y, last)

    compare(Model().eval(), (3, "T", 5) if batch_first else ("T", 3, 5), lengths=(1, 7, 12))


def test_relu_rnn_without_biases():
    torch.manual_seed(0)
    rnn = nn.RNN(5, 4, nonlinearity="relu", bias=False, batch_first=True)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = rnn

        def forward(self, x0):
            return self.rnn(x0)[0]

    compare(Model().eval(), (1, "T", 5))


SIGNAL = {
    "power": lambda x: torch.stft(x, 16, 4, return_complex=True, window=torch.hann_window(16)).abs() ** 2,
    "real view": lambda x: torch.view_as_real(torch.stft(x, 16, 4, return_complex=True, window=torch.ones(16))),
    "short window": lambda x: torch.stft(x, 16, 4, 10, torch.hamming_window(10), return_complex=True).abs(),
    "not centred": lambda x: torch.stft(x, 16, 5, window=torch.ones(16), center=False, return_complex=True).real,
    "two-sided": lambda x: torch.stft(x, 16, window=torch.ones(16), onesided=False, return_complex=True).imag,
    "normalised": lambda x: torch.stft(x, 16, window=torch.ones(16), normalized=True, return_complex=True).abs(),
    "constant edges": lambda x: torch.stft(
        x, 16, window=torch.ones(16), pad_mode="constant", return_complex=True
    ).abs(),
    "there and back": lambda x: torch.istft(
        torch.stft(x, 16, 4, window=torch.hann_window(16), return_complex=True) * 2, 16, 4, window=torch.hann_window(16)
    ),
    "frames": lambda x: torch.fft.rfft(x.unfold(1, 16, 8) * torch.hann_window(16)).abs(),
    "padded frames": lambda x: torch.fft.rfft(x.unfold(1, 12, 8), n=16, norm="ortho").abs(),
    "inverse": lambda x: torch.fft.irfft(torch.fft.rfft(x.unfold(1, 16, 8)) * (1 + 2j), n=16),
    "odd inverse": lambda x: torch.fft.irfft(torch.fft.rfft(x.unfold(1, 15, 8)), n=15),
    "full": lambda x: torch.fft.fft(x.unfold(1, 16, 8)).real,
    "products": lambda x: (
        lambda s: (s * s.conj()).real + (s / (s.abs() + 1)).imag + (s.transpose(1, 2).unsqueeze(0)[0].mT - s).abs()
    )(torch.stft(x, 16, window=torch.ones(16), return_complex=True)),
    "rotation": lambda x: torch.view_as_real(
        torch.view_as_complex(x.unfold(1, 8, 8).unflatten(2, (4, 2)).contiguous())
        * torch.polar(torch.ones(4), torch.arange(4) * 0.3)
    ).flatten(2),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNAL)
@pytest.mark.slow
def test_signal(name):
    compare(SIGNAL[name], (2, "T"), sample=80, lengths=(48, 121), tolerance=1e-4)

"""Operators, a family at a time: captured and run by the interpreter, they equal eager PyTorch at other lengths."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captured import compare
from speechc.ir.interpreter import run
from torch import nn


def whole(random, shape):
    return random.integers(0, 5, shape)


R6 = torch.linspace(0.2, 1, 6)
FUNCTIONS = {
    "functions": lambda x: (
        x.exp(), (x.abs() + 0.1).log(), (x.abs() + 1).log2(), x.abs().log1p(), (x.abs() + 1).log10(), x.abs().sqrt(),
        (x.abs() + 1).rsqrt(), x.sin(), x.cos(), x.tanh(), x.sigmoid(), x.erf(), x.expm1(), x.exp2(), x.sign(),
        (3 * x).floor(), (3 * x).ceil(), (3 * x).round(), (3 * x).trunc(), (3 * x).frac(), x.square(), x.reciprocal(),
        torch.round(x, decimals=1),
    ),
    "activations": lambda x: (
        F.relu(x), F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.elu(x, 0.7), F.selu(x), F.celu(x, 1.3),
        F.leaky_relu(x, 0.2), F.softplus(x), F.softplus(x, beta=2), F.mish(x), F.hardtanh(x), F.relu6(3 * x),
        F.hardswish(3 * x), F.hardsigmoid(3 * x), F.logsigmoid(x), F.glu(x, -1), F.softsign(x), F.tanhshrink(x),
        F.threshold(x, 0.1, 0.5), F.prelu(x.transpose(1, 2), torch.linspace(0, 1, 6)), F.hardshrink(x),
    ),
    "powers": lambda x: (
        x**2, x**3, x.abs() ** 0.5, (x.abs() + 1) ** -0.5, (x.abs() + 1) ** -1, x.abs() ** 1.7, 2**x,
        x.abs() ** x.abs(),
    ),
    "clamps": lambda x: (
        x.clamp(-0.3, 0.4), x.clamp(min=0.1), x.clamp_max(0.2), torch.maximum(x, -x), torch.minimum(x, x * 2),
        torch.clamp(x, min=-x.abs(), max=x.abs() / 2), x.nan_to_num(),
        torch.where(x > 0, x, torch.inf).nan_to_num(posinf=3),
    ),
    "mixed types": lambda x: (
        x + 1, 1 - x, x * 2, x / 3, x + torch.arange(6), torch.arange(6) / 4, torch.arange(6) // 4,
        torch.arange(6) % 4, torch.arange(6) - 3, (torch.arange(6) - 3) // 2, torch.add(x, x, alpha=2),
        torch.sub(x, x * 3, alpha=0.5), (x > 0) * x, (x > 0) + 1, (x > 0).sum(1), torch.arange(6) * 0.5,
        torch.div(x, 0.3, rounding_mode="floor"), torch.div(x, 0.3, rounding_mode="trunc"),
        torch.div(torch.arange(6) - 3, 2, rounding_mode="trunc"), torch.remainder(x, 0.7), torch.fmod(x, 0.7),
        torch.lerp(x, 2 * x, 0.3), torch.addcmul(x, x, x, value=0.5), torch.addcdiv(x, x, x.abs() + 1, value=2),
        x.diff(), x.diff(2, 1, prepend=x[:, :1]), (x > 0).diff(dim=1), torch.arange(6).diff(append=torch.arange(2)),
        torch.rsub(x, 2.0), x.double() * 2, x.to(torch.int32) + 1, x.long() * x,
    ),
    "logic": lambda x: (
        x > 0, x >= 0.5, x < 0.1, x <= x.mean(), x == x, x != 0, (x > 0) & (x < 1), (x > 0) | (x < -1), ~(x > 0),
        (x > 0) ^ (x > 1), torch.logical_and(x > 0, x < 1), torch.logical_not(x), torch.isnan(x), torch.isinf(x / 0),
        x.isfinite(), torch.where(x > 0, x, 0.0), torch.where(x > 0, 1.0, -1.0), x.masked_fill(x > 0, -1.0),
        (x > 0).any(), (x > -9).all(2), (x > 1).any(dim=(1, 2)), torch.arange(6) > 2.5,
    ),
    "reductions": lambda x: (
        x.sum(), x.sum(1), x.sum((0, 2), keepdim=True), x.mean(), x.mean(-1), x.amax(1), x.amin(2, keepdim=True),
        x.max(),
        x.min(), *x.max(1), *x.min(2), x.argmax(1), x.argmin(2, keepdim=True), x.argmax(), x.var(1), x.var((1, 2)),
        x.std(2), x.std(1, unbiased=False), *torch.var_mean(x, 1, correction=0), x.norm(dim=1), x.norm(p=1, dim=2),
        torch.linalg.vector_norm(x, 3, dim=1), torch.linalg.vector_norm(x, torch.inf, dim=1), x.logsumexp(1),
        x.cumsum(1), F.mse_loss(x, 2 * x), F.mse_loss(x, x[:, :, :1].expand(-1, -1, 6), reduction="none"),
        F.mse_loss(x, x**2, reduction="sum"), F.l1_loss(x, 3 * x),
        (x > 0).cumsum(1), x.prod(2), x.count_nonzero(1),
    ),
    "norms": lambda x: (
        F.layer_norm(x, (6,)), F.layer_norm(x, (6,), R6, R6), F.rms_norm(x, (6,)),
        F.rms_norm(x, (6,), R6, 1e-3), F.group_norm(x.transpose(1, 2), 3), F.instance_norm(x.transpose(1, 2)),
        F.batch_norm(x.transpose(1, 2), R6, R6 + 1), F.normalize(x, dim=-1), F.softmax(x, 1),
        F.log_softmax(x, 2), F.softmin(x, 2), F.softmax(x, -1, dtype=torch.float64),
        F.cosine_similarity(x, x * 2 + 1, dim=2),
        F.local_response_norm(x.transpose(1, 2), 3),
    ),
    "views": lambda x: (
        x.reshape(1, -1), x.view(-1, 6), x.flatten(1), x.unflatten(2, (2, 3)), x.unsqueeze(2), x.squeeze(0),
        x[:, :, None],
        x.transpose(1, 2), x.permute(2, 0, 1), x.mT, x.movedim(1, 0), x.expand(3, -1, -1), x.repeat(2, 3, 1),
        x.repeat_interleave(2, dim=1), x.repeat_interleave(3, dim=2), x.tile(2), x.swapaxes(0, 1), x[0].t(),
    ),
    "slices": lambda x: (
        x[:, 2:], x[:, :-2], x[:, 1:-1], x[:, ::2], x[:, 1::2], x[:, -3:], x[:, 2:5], x[..., ::3], x[:, 0], x[:, -1],
        x[..., -2], x[:, x.shape[1] // 2 :], x[:, : x.shape[1] // 2], *x.chunk(2, 2), *x.split([1, 5], 2),
        *x.split(4, 2),
        *x.unbind(2), x.narrow(2, 1, 3), x.select(2, 4), x[:, 3:-2:2],
    ),
    "joins": lambda x: (
        torch.cat([x, x], 1), torch.cat([x[:, :1], x], 1), torch.stack([x, x + 1]), torch.stack([x, x], -1), x.flip(1),
        x.flip([1, 2]), x.roll(1, 1), x.roll(-2, 2), x.roll(3), torch.cat([x, torch.zeros(1, x.shape[1], 2)], 2),
        torch.hstack([x, x]), torch.cat([x, torch.arange(6).expand(1, 1, 6)], 1), x.roll((1, 2), (1, 2)),
    ),
    "pads": lambda x: (
        F.pad(x, (1, 2)), F.pad(x, (0, 0, 3, 1)), F.pad(x, (0, 0, -1, -2)), F.pad(x, (1, -1, 2, 0), value=1.5),
        F.pad(x.transpose(1, 2), (2, 3), mode="reflect"), F.pad(x.transpose(1, 2), (1, 2), mode="replicate"),
        F.pad(x.transpose(1, 2), (1, 2), mode="circular"), F.pad(x > 0, (1, 1), value=True),
        F.pad(x, (0, 0, 0, -x.shape[1] % 4)), nn.ConstantPad1d((2, 0), 1.0)(x),
        F.pad(x[None], (1, 1, 2, 2), mode="reflect"),
    ),
    "windows": lambda x: (
        x.unfold(1, 4, 2), x.unfold(2, 3, 1), x.transpose(1, 2).unfold(2, 5, 3),
        F.unfold(x[:, None], (3, 1), padding=(1, 0)),
    ),
    "creation": lambda x: (
        torch.arange(x.shape[1]), torch.arange(1, x.shape[1] + 1), torch.arange(x.shape[1], 0, -1),
        torch.ones(x.shape[1], 2),
        torch.arange(0, 2 * x.shape[1], 2), torch.zeros_like(x), torch.full((x.shape[1], 3), 2.5),
        x.new_zeros(2, x.shape[1]),
        torch.full_like(x, 7), torch.eye(x.shape[1]), torch.ones(x.shape[1], x.shape[1]).tril(),
        torch.linspace(0, 1, 5) + x[0, 0, 0],
        torch.ones(x.shape[1], x.shape[1]).triu(1), x.tril(-1), x.triu(2), torch.hann_window(8) + 0 * x[0, 0, 0],
        torch.tensor(3.0) + x,
        torch.arange(0.0, 3.0, 0.5) + x, torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(),
        torch.scalar_tensor(x.shape[1]), torch.arange(x.shape[1], dtype=torch.float32) / x.shape[1],
        torch.meshgrid(torch.arange(x.shape[1]), torch.arange(3), indexing="ij")[0], torch.blackman_window(6) + x,
    ),
    "picks": lambda x: (
        F.embedding(torch.arange(x.shape[1]) % 5, torch.linspace(0, 1, 15).view(5, 3)),
        x.index_select(2, torch.tensor([3, 1])),
        x[:, :, torch.tensor([0, 5, 2])], x[:, torch.arange(3), torch.arange(3)],
        x.gather(2, x.argmax(2, keepdim=True)),
        x[:, torch.arange(x.shape[1])],
        torch.zeros_like(x).scatter(2, x.argmax(2, keepdim=True), 1.0), x[:, torch.tensor([-1, 0])],
        x.scatter(1, x.argmax(1, keepdim=True), x[:, :1]), F.one_hot(torch.arange(x.shape[1]) % 3, 4),
        x.index_select(1, torch.arange(x.shape[1]).flip(0)),
    ),
    "products": lambda x: (
        x @ x.transpose(1, 2), x @ torch.ones(6, 2), x @ torch.ones(6), torch.bmm(x, x.transpose(1, 2)),
        F.linear(x, torch.ones(3, 6)),
        torch.addmm(torch.ones(4), x[0], torch.ones(6, 4), beta=0.5, alpha=2), torch.mv(x[0], torch.ones(6)),
        torch.einsum("btc,bsc->bts", x, x), torch.einsum("btc,dc->btd", x, torch.ones(2, 6)),
        torch.einsum("btc->bct", x),
        torch.einsum("bhtd,bhsd->bhts", x.view(1, 1, -1, 6), x.view(1, 1, -1, 6)),
        torch.einsum("...c,c->...", x, torch.arange(6.0)),
        torch.einsum("bti,tj->btij", x, x[0]), torch.einsum("btc->t", x), torch.outer(x[0, :, 0], x[0, :, 1]),
        torch.dot(x[0, :, 0], x[0, :, 1]),
        torch.baddbmm(torch.ones(1, 1, 1), x, x.transpose(1, 2), beta=2, alpha=0.1),
        torch.einsum("btc,c,bt->bt", x, torch.ones(6), x[..., 0]),
    ),
    "writes": lambda x: (written(x), assigned(x)),
    "convolutions": lambda x: convolved(x.transpose(1, 2)),
    "pooling": lambda x: pooled(x.transpose(1, 2)),
    "interpolation": lambda x: (
        F.interpolate(x.transpose(1, 2), scale_factor=2),
        F.interpolate(x.transpose(1, 2), scale_factor=3.0, mode="linear"),
        F.interpolate(x[:, None], scale_factor=2), F.interpolate(x[:, None], scale_factor=(2.0, 1.0), mode="bilinear"),
    ),
    "lengths": lambda x: (
        x * x.shape[1], x / x.shape[1], x / (x.shape[1] ** 0.5), x * (x.shape[1] / 2), x + (x.shape[1] // 3),
        x[:, : 2 * ((x.shape[1] - 3) // 4) - 1], x[:, : 3 * (x.shape[1] // 3)], x[:, : max(x.shape[1] - 4, 2)],
        x[:, : min(x.shape[1], 6)], x[:, : math.ceil(x.shape[1] / 2)],
        F.pad(x, (0, 0, 0, -x.shape[1] % 4)).reshape(1, -1, 24),
        x[:, : x.shape[1] // 3 * 3].reshape(1, -1, 18), x - x[:, :1], x - x[:, -1:], skewed(x),
        x * x.max().item(), x - x.mean().item() / 2,
    ),
}  # fmt: skip


def skewed(x):
    """The shift of Transformer-XL: scores by distance become scores by position."""
    n = x.shape[1]
    scores = x @ torch.linspace(0, 1, 6)[:, None] * torch.arange(2 * n - 1)
    return F.pad(scores, (1, 0)).view(1, 2 * n, n)[:, 1:].reshape(1, n, 2 * n - 1)[..., :n]


def written(x):
    y = x.clone()
    y[:, 1:] = x[:, :-1]
    y[:, 0] = 0
    y[y > 1] = 1.0
    y[:, :, ::2] = y[:, :, ::2] * 2
    y += 1
    y[..., -1].mul_(3)
    return y


def assigned(x):
    y = torch.zeros(x.shape[1], 6)
    y[:, 0:3] = x[0, :, 3:]
    y[2:, 4] = 5.0
    return y


RANDOM = torch.Generator().manual_seed(1)
W, D, W2, T = (torch.randn(s, generator=RANDOM) for s in ((8, 6, 3), (6, 1, 3), (4, 1, 3, 3), (6, 4, 4)))


def convolved(x, w=W, d=D, w2=W2, t=T):
    return (
        F.conv1d(x, w), F.conv1d(x, w, torch.ones(8), stride=2, padding=1), F.conv1d(x, d, groups=6, padding="same"),
        F.conv1d(x, w[:, :, :2], padding="same"), F.conv1d(x, w, dilation=2, padding="valid"),
        F.conv2d(x[:, None], w2, padding=(1, 0)),
        F.conv1d(x[0], w), F.conv_transpose1d(x, t, stride=2, padding=1),
        F.conv_transpose1d(x, t, stride=2, output_padding=1),
        F.conv_transpose2d(x[:, None], w2[:1], stride=2), F.conv_transpose1d(x, t[:, :1], groups=6),
    )  # fmt: skip


def pooled(x):
    return (
        F.max_pool1d(x, 3), F.max_pool1d(x, 3, 1, 1), F.max_pool1d(x, 2, dilation=2), F.avg_pool1d(x, 3, 2),
        F.avg_pool1d(x, 3, 1, 1, count_include_pad=False), F.avg_pool1d(x, 3, 1, 1), F.max_pool2d(x[:, None], 2),
        F.avg_pool2d(x[:, None], (3, 2), stride=1), F.adaptive_avg_pool1d(x, 1), F.adaptive_max_pool1d(x, 1),
        F.adaptive_avg_pool2d(x, (3, 1)), F.adaptive_avg_pool2d(x[None], (2, None)), F.lp_pool1d(x, 2, 3),
    )  # fmt: skip


QUICK = ("picks", "products", "joins")  # the others take a second and more each


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in FUNCTIONS])
def test_family(name):
    compare(FUNCTIONS[name], (1, "T", 6), sample=23 if name == "lengths" else 9)


def test_batch_of_integers():
    table = torch.linspace(-1, 1, 20).view(5, 4)
    compare(lambda x: (F.embedding(x, table), x + 1, x * 0.5, x // 2, x.float().mean(), x == 3), (2, "T"), make=whole)


def test_two_inputs_of_one_length():
    module = compare(lambda x, y: (x + y, x * y.sum(2, keepdim=True)), (1, "T", 4), (1, "T", 4))
    assert [str(v.type) for v in module.main.inputs] == ["f32[1, T@x0, 4]"] * 2


def test_two_inputs_of_their_own_lengths():
    module = compare(lambda x, y: (x.mean(1), y.sum(1)), (1, "T", 4), (1, "T", 3))
    assert [str(v.type) for v in module.main.inputs] == ["f32[1, T@x0, 4]", "f32[1, T2@x1, 3]"]
    feeds = {"x0": np.ones((1, 5, 4), "f"), "x1": np.ones((1, 8, 3), "f")}
    assert run(module.main, feeds)[1][0, 0] == 8


def put(x, *places, value=1.0):
    """`x[places] = value`, leaving x as it is."""
    return torch.index_put(x, places, torch.as_tensor(value))


WRITTEN = {
    "one in every row": lambda x, n: (
        put(x[:, :, 0], torch.arange(3), n % x.shape[1]), put(x, torch.arange(3), -1 - n % x.shape[1], value=2.0),
        put(x, torch.arange(3), n % 2, value=x[:, 0] + 7),
    ),
    "anywhere": lambda x, n: (
        put(x, n % 3), put(x, n % 3, n % x.shape[1]), put(x, n % 3, -1 - n % x.shape[1], n), put(x, n[:, None] % 3, n),
        put(x, torch.tensor([2, 1, 0]), n),
    ),
    "by mask": lambda x, n: (put(x, x > 0), put(x, x[:, :, 0] > 0), put(x, n > 2)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_written_positions(name):
    """Assignments at positions that the graph computes: rows, negative positions, the same place twice."""
    numbers = lambda random, shape: (
        random.integers(0, 4, shape) if shape == [3] else random.standard_normal(shape, dtype=np.float32)
    )
    compare(WRITTEN[name], (3, "T", 5), (3,), make=numbers)


@pytest.mark.slow
def test_a_crop_to_what_is_longer_at_some_lengths():
    """y[:, :T] where y is longer than T at the traced length, as long or shorter at others; and the other way round."""

    def nearest(x):
        y = x[:, ::4].repeat_interleave(4, dim=1)  # 4⌈T/4⌉ frames
        z = x[:, : x.shape[1] // 4 * 4]
        return y[:, : x.shape[1]], z[:, : x.shape[1]], x[:, : z.shape[1] + 2], x[:, : y.shape[1]] * 2

    for sample in (9, 12):
        compare(nearest, (1, "T", 3), lengths=(8, 11, 13, 40), sample=sample)

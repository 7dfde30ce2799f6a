"""PyTorch modules that coremltools' own converter turns into packages, and how each is converted and run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Case:
    """A module, its inputs, and how it is converted.

    `flexible` maps an input's dimension to a range (least, most) or a list of sizes, `sizes` are the lengths to run it
    at; `half` asks for float16; `compress` changes the converted model; `ops` must be in the package.
    """

    name: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    ops: tuple[str, ...] = ()
    target: str = "iOS17"
    half: bool = False
    export: bool = False
    flexible: dict[int, object] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    integer: int = 0  # inputs are indices below this
    compress: Callable | None = None
    steps: int = 1  # a module with state is called that often
    quick: bool = False

    def inputs(self, size: int | None = None) -> list[torch.Tensor]:
        torch.manual_seed(7)
        made = []
        for shape in self.shapes:
            sizes = [size if size and i in self.flexible else n for i, n in enumerate(shape)]
            made.append(
                torch.randint(0, self.integer, sizes, dtype=torch.int32) if self.integer else torch.randn(sizes)
            )
        return made


class Run(nn.Module):
    """A function of tensors, with what it needs as a module."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *inputs):
        return self.function(*self.parts, *inputs)


class First(nn.Module):
    """A recurrent layer's sequence and its last states."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y, state = self.layer(x)
        state = state if isinstance(state, tuple) else (state,)
        return (y, *state)


class Attention(nn.Module):
    def __init__(self, size=32, heads=4, masked=False):
        super().__init__()
        self.qkv, self.out, self.heads, self.masked = nn.Linear(size, 3 * size), nn.Linear(size, size), heads, masked

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mask = torch.tril(torch.ones(t, t, dtype=torch.bool)) if self.masked else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class Conformer(nn.Module):
    """Half a feed-forward, attention, convolution with a GLU, half a feed-forward, a norm."""

    def __init__(self, size=32):
        super().__init__()
        self.first, self.last = self.feed(size), self.feed(size)
        self.norm, self.attention, self.end = nn.LayerNorm(size), Attention(size), nn.LayerNorm(size)
        self.before, self.inside = nn.LayerNorm(size), nn.Conv1d(size, 2 * size, 1)
        self.depth, self.batch = nn.Conv1d(size, size, 7, padding=3, groups=size), nn.BatchNorm1d(size)
        self.outside = nn.Conv1d(size, size, 1)

    @staticmethod
    def feed(size):
        return nn.Sequential(nn.LayerNorm(size), nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))

    def forward(self, x):
        x = x + 0.5 * self.first(x)
        x = x + self.attention(self.norm(x))
        y = F.glu(self.inside(self.before(x).transpose(1, 2)), dim=1)
        x = x + self.outside(F.silu(self.batch(self.depth(y)))).transpose(1, 2)
        return self.end(x + 0.5 * self.last(x))


class Stateful(nn.Module):
    """A causal convolution that keeps its last frames, and a count of what it has seen."""

    def __init__(self, size=8, kernel=3):
        super().__init__()
        self.conv = nn.Conv1d(size, size, kernel)
        self.register_buffer("cache", torch.zeros(1, size, kernel - 1))
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        x = torch.cat([self.cache, x], 2)
        self.cache[:, :, 0:2] = x[:, :, -2:]
        self.seen.add_(1.0)
        return self.conv(x) * self.seen


def randomised(module: nn.Module) -> nn.Module:
    """Norms as training leaves them: nothing is 0 or 1 by chance."""
    for m in module.modules():
        for name in ("running_mean", "running_var", "weight", "bias"):
            value = getattr(m, name, None)
            if isinstance(value, torch.Tensor) and value.ndim == 1:
                value.data.copy_(torch.rand_like(value) + 0.5)
    return module


def gridded(module: nn.Module, values: int = 255, zeros: float = 0.0) -> nn.Module:
    """Weights on a grid that their compression keeps exactly, so that only unpacking is at stake."""
    for m in module.modules():
        if isinstance(m, nn.Linear | nn.Conv1d):
            half = values // 2
            w = torch.randint(-half, half + 1, m.weight.shape).float()
            if zeros:  # exactly that part of them
                w[w == 0] = 1
                w.flatten(1)[:, : int(zeros * w[0].numel())] = 0
            w.flatten(1)[:, -1] = half  # every channel spans the grid, and with it every block of 16
            w.flatten(1)[:, ::16] *= 0 if zeros else 1
            w.flatten(1)[:, 15::16] = half
            m.weight.data.copy_(w / (4 * half))
    return module


def _optimize():
    import coremltools.optimize.coreml as optimize

    return optimize


def _quantized(granularity="per_channel", dtype="int8", **options):
    def compress(model):
        optimize = _optimize()
        config = optimize.OpLinearQuantizerConfig(
            mode="linear_symmetric", dtype=dtype, granularity=granularity, weight_threshold=16, **options
        )
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(config))

    return compress


def _palettized(model):
    optimize = _optimize()
    config = optimize.OpPalettizerConfig(mode="unique", weight_threshold=16)
    return optimize.palettize_weights(model, optimize.OptimizationConfig(config))


def _pruned(model):
    optimize = _optimize()
    config = optimize.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=16)
    return optimize.prune_weights(model, optimize.OptimizationConfig(config))


def _both(first, second):
    def compress(model):
        optimize = _optimize()
        config = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=16)
        return optimize.linear_quantize_weights(
            first(model), optimize.OptimizationConfig(config), joint_compression=True
        )

    return compress if second else first


def _positions(x):
    t = x.shape[1]
    steps = torch.arange(t, dtype=torch.float32)
    angles = steps[:, None] * torch.exp(torch.arange(0.0, 8.0, 2.0) * (-math.log(100.0) / 8))
    return x + torch.cat([torch.sin(angles), torch.cos(angles)], 1)


def _masked_mean(x):
    lengths = torch.tensor([5, 9])
    mask = torch.arange(x.shape[1])[None, :] < lengths[:, None]
    x = x.masked_fill(~mask[:, :, None], 0.0)
    return torch.cumsum(x, 1), x.sum(1) / lengths[:, None], x.var(1), torch.logsumexp(x, 2)


def _pieces(x):
    a, b, c = x.split([3, 4, 1], dim=1)
    return torch.stack([a[:, :, ::2], a[:, :, 1::2]], 1), b.flip(2)[:, -2:], c.squeeze(1).repeat(1, 2), x[:, 1:-1, 3]


def _pads(x):
    return F.pad(x, (3, 2), "reflect"), F.pad(x, (1, 4), "replicate"), F.pad(x, (2, 0, 1, 1), value=-1.5)


def _math(x):
    y = x.abs() + 0.1
    return (
        torch.log(y) + torch.rsqrt(y) - torch.exp(-y) * torch.erf(x),
        torch.where(x > 0, torch.sin(x), torch.cos(x)) / (1 + y),
        torch.floor(x * 3) + torch.round(x * 5) - torch.sign(x) * torch.clamp(x, -0.5, 0.7),
        torch.maximum(x, y * 0.3) + torch.minimum(x, y) + y.pow(1.5) + torch.remainder(x * 4, 1.5),
    )


def _activations(x):
    found = [F.elu(x, 0.7), F.leaky_relu(x, 0.1), F.softplus(x), F.hardtanh(x), F.relu6(x * 4), F.softsign(x)]
    return torch.cat([*found, F.gelu(x), F.gelu(x, approximate="tanh"), F.hardsigmoid(x), F.hardswish(x)], 1)


CONV_STACK = lambda: nn.Sequential(
    nn.Conv1d(10, 16, 3, padding=1), nn.ReLU(), nn.Conv1d(16, 16, 5, dilation=3, padding=6), nn.SiLU(),
    nn.Conv1d(16, 24, 4, stride=2, groups=2), nn.Conv1d(24, 8, 1),
)  # fmt: skip
SUBSAMPLE = lambda: nn.Sequential(
    nn.Conv2d(1, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 12, 3, stride=(2, 1), padding=(1, 0)), nn.ReLU(),
    nn.Conv2d(12, 12, 3, padding="same", groups=12),
)  # fmt: skip
SEPARABLE = lambda: randomised(
    nn.Sequential(
        nn.Conv1d(16, 16, 5, groups=16, padding=2), nn.Conv1d(16, 24, 1), nn.BatchNorm1d(24), nn.ReLU(),
        nn.Conv1d(24, 24, 9, groups=24, padding=8, dilation=2), nn.Conv1d(24, 8, 1), nn.BatchNorm1d(8),
    )
)  # fmt: skip
UPSTACK = lambda: nn.Sequential(
    nn.ConvTranspose1d(8, 12, 4, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose1d(12, 6, 3, stride=3, groups=3),
    nn.ConvTranspose1d(6, 4, 5, stride=2, padding=2, output_padding=1),
)  # fmt: skip
ENCODER = lambda: nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
POOLS = lambda: Run(
    lambda x: (
        F.max_pool1d(x, 3, 2, 1), F.avg_pool1d(x, 4, 3, 2), F.avg_pool1d(x, 4, 3, 2, count_include_pad=False),
        F.max_pool1d(x, 3, 2, ceil_mode=True), F.adaptive_avg_pool1d(x, 1), F.max_pool1d(x, 2, 1, dilation=1),
    )
)  # fmt: skip
NORMS = lambda: randomised(
    nn.Sequential(nn.GroupNorm(3, 12), nn.InstanceNorm1d(12, affine=True), nn.BatchNorm1d(12), nn.LayerNorm([12, 20]))
)
DENSE = lambda: nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 32))

CASES = [
    Case("linear", DENSE, ((1, 7, 32),), ("linear", "relu")),
    Case("conv", CONV_STACK, ((1, 10, 40),), ("conv",), "iOS15", flexible={2: (30, 200)}, sizes=(40, 77), quick=True),
    Case("conv half", CONV_STACK, ((1, 10, 40),), ("conv",), half=True),
    Case("conv 2-D", SUBSAMPLE, ((1, 1, 41, 32),), ("conv",), flexible={2: [41, 60, 97]}, sizes=(41, 97)),
    Case("separable", SEPARABLE, ((2, 16, 30),), ("conv",), "iOS16", half=True),
    Case("transposed", UPSTACK, ((1, 8, 11),), ("conv_transpose",), "iOS16"),
    Case("LSTM", lambda: First(nn.LSTM(12, 16, 2, batch_first=True)), ((1, 9, 12),), ("lstm",), quick=True),
    Case("LSTM half", lambda: First(nn.LSTM(12, 16)), ((9, 2, 12),), ("lstm",), half=True),
    Case(
        "LSTM both ways", lambda: First(nn.LSTM(12, 16, bidirectional=True, batch_first=True)), ((3, 9, 12),),
        ("lstm",), "iOS15", flexible={1: (1, 50)}, sizes=(9, 1, 31),
    ),
    Case("GRU", lambda: First(nn.GRU(6, 8, batch_first=True)), ((1, 5, 6),), ("while_loop",)),
    Case("GRU both ways", lambda: First(nn.GRU(6, 8, bidirectional=True)), ((5, 2, 6),), ("while_loop",), half=True),
    Case("RNN", lambda: First(nn.RNN(6, 8, nonlinearity="relu")), ((5, 2, 6),)),
    Case("attention", Attention, ((2, 10, 32),), ("softmax",), "iOS16"),
    Case("attention in one op", Attention, ((1, 10, 32),), ("scaled_dot_product_attention",), "iOS18", export=True),
    Case(
        "causal attention", lambda: Attention(masked=True), ((1, 10, 32),), (), "iOS18", half=True,
        flexible={1: (2, 64)}, sizes=(10, 33),
    ),
    Case("transformer", ENCODER, ((1, 12, 32),), ("layer_norm", "gelu"), flexible={1: (2, 99)}, sizes=(12, 50)),
    Case("transformer half", ENCODER, ((1, 12, 32),), ("layer_norm",), half=True, export=True),
    Case("conformer", lambda: randomised(Conformer()), ((1, 14, 32),), ("split",)),
    Case(
        "conformer half", lambda: randomised(Conformer()), ((1, 14, 32),), ("conv",), "iOS18", half=True,
        flexible={1: (8, 64)}, sizes=(14, 40),
    ),
    Case("norms", NORMS, ((2, 12, 20),), ("instance_norm", "layer_norm")),
    Case("pools", POOLS, ((1, 6, 17),), ("max_pool", "avg_pool"), "iOS16"),
    Case("embedding", lambda: nn.Embedding(20, 8), ((2, 9),), ("gather",), integer=20),
    Case("embedding before iOS 17", lambda: nn.Embedding(20, 8), ((1, 9),), ("gather",), "iOS16", integer=20),
    Case("GLU and mixed", lambda: Run(lambda x: F.glu(x, 1) * torch.softmax(x[:, 3:], 2)), ((2, 6, 9),)),
    Case("activations", lambda: Run(_activations), ((1, 4, 15),), ("elu", "gelu", "softplus")),
    Case("functions", lambda: Run(_math), ((3, 50),), ("log", "erf", "select")),
    Case("functions before iOS 17", lambda: Run(_math), ((3, 50),), ("log", "erf"), "iOS15"),
    Case("upsampling", lambda: nn.Upsample(scale_factor=2, mode="nearest"), ((1, 3, 5, 7),)),
    Case("bilinear", lambda: nn.Upsample(scale_factor=3, mode="bilinear"), ((1, 3, 5, 7),), ("upsample_bilinear",)),
    Case("sums under masks", lambda: Run(_masked_mean), ((2, 10, 6),), ("cumsum",)),
    Case("pads", lambda: Run(_pads), ((1, 4, 9),), ("pad",)),
    Case("pieces", lambda: Run(_pieces), ((2, 8, 10),), ("split", "reverse")),
    Case("einsum", lambda: Run(lambda x, y: torch.einsum("bhqd,bhkd->bhqk", x, y)), ((1, 2, 5, 4), (1, 2, 7, 4))),
    Case("positions", lambda: Run(_positions), ((1, 12, 8),), ("sin",), flexible={1: (4, 40)}, sizes=(12, 29)),
    Case("top", lambda: Run(lambda x: (*torch.topk(x, 3, 1), torch.argmax(x, 2), x.sort(2)[0])), ((2, 8, 5),)),
    Case("one hot", lambda: Run(lambda x: F.one_hot(x.long(), 6).float()), ((2, 5),), integer=6),
    Case("state", Stateful, ((1, 8, 4),), ("read_state", "write_state"), "iOS18", half=True, steps=4),
    Case("int8 weights", lambda: gridded(DENSE()), ((1, 5, 32),), ("constexpr_affine_dequantize",), "iOS16",
         compress=_quantized()),
    Case("int8 weights half", lambda: gridded(CONV_STACK()), ((1, 10, 40),), ("constexpr_blockwise_shift_scale",),
         "iOS18", half=True, compress=_quantized()),
    Case("int4 weights in blocks", lambda: gridded(DENSE(), 15), ((1, 5, 32),), ("constexpr_blockwise_shift_scale",),
         "iOS18", half=True, compress=_quantized("per_block", "int4", block_size=16)),
    Case("palette", lambda: gridded(DENSE(), 15), ((1, 5, 32),), ("constexpr_lut_to_dense",), "iOS16",
         compress=_palettized),
    Case("palette of iOS 18", lambda: gridded(DENSE(), 63), ((1, 5, 32),), ("constexpr_lut_to_dense",), "iOS18",
         compress=_palettized),
    Case("sparse", lambda: gridded(DENSE(), 255, 0.5), ((1, 5, 32),), ("constexpr_sparse_to_dense",), "iOS16",
         compress=_pruned),
    Case("sparse of iOS 18", lambda: gridded(DENSE(), 255, 0.5), ((1, 5, 32),), ("constexpr_sparse_to_dense",),
         "iOS18", half=True, compress=_pruned),
    Case("sparse int8", lambda: gridded(DENSE(), 255, 0.5), ((1, 5, 32),),
         ("constexpr_sparse_blockwise_shift_scale", "constexpr_sparse_to_dense"), "iOS18", compress=_both(_pruned, 1)),
]  # fmt: skip

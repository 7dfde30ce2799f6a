"""Which ops a runtime runs faster in 8 bits than in float, and in which form: the figures behind the targets' tables.

python benchmarks/integer_ops.py [--threads 2] [--blocks 5]

Each line is one layer as it stands in a Conformer over 10 s of audio, floats in and out, so the cost of quantizing and
dequantizing around it counts. A number is how many times as fast as float the form is; "-" is a form that the target
does not have for that op.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from speechc.compiler.manager import Manager
from speechc.ir.errors import SpeechcError
from speechc.ir.graph import Builder, Graph, Loc, Module, Value
from speechc.ir.text import clone
from speechc.ir.types import Tensor
from speechc.lowering.target import target
from speechc.passes.base import Context, make
from timing import ratio, side_by_side

LAYERS: dict[str, tuple[tuple[int, ...], Callable[[Graph, Builder, Value], Value]]] = {}
FRAMES, SIZE, HIDDEN = 249, 256, 2048


def layer(name: str, *shape: int):
    """Register a layer: the shape of its input, and a function that builds it."""

    def register(build):
        LAYERS[name] = (shape, build)
        return build

    return register


def weight(g: Graph, *shape: int) -> Value:
    rng = np.random.default_rng(len(g.weights))
    return g.weight(f"w{len(g.weights)}", (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))


@layer("linear 256 → 2048", 1, FRAMES, SIZE)
def _(g, b, x):
    return b.linear(x, weight(g, HIDDEN, SIZE), weight(g, HIDDEN))


@layer("linear 2048 → 256", 1, FRAMES, HIDDEN)
def _(g, b, x):
    return b.linear(x, weight(g, SIZE, HIDDEN), weight(g, SIZE))


@layer("linear 256 → 256", 1, FRAMES, SIZE)
def _(g, b, x):
    return b.linear(x, weight(g, SIZE, SIZE), weight(g, SIZE))


@layer("feed-forward with SiLU", 1, FRAMES, SIZE)
def _(g, b, x):
    y = b.silu(b.linear(x, weight(g, HIDDEN, SIZE), weight(g, HIDDEN)))
    return b.linear(y, weight(g, SIZE, HIDDEN), weight(g, SIZE))


@layer("conv 3×3, 128 channels", 1, 128, 250, 20)
def _(g, b, x):
    pad = {"stride": (1, 1), "dilation": (1, 1), "pad": ((1, 1), (1, 1))}
    return b.relu(b.conv(x, weight(g, 128, 128, 3, 3), weight(g, 128), **pad))


@layer("conv 5, 256 channels", 1, SIZE, FRAMES)
def _(g, b, x):
    return b.relu(b.conv(x, weight(g, SIZE, SIZE, 5), weight(g, SIZE), pad=((2, 2),)))


@layer("depthwise 31 over time", 1, SIZE, FRAMES)
def _(g, b, x):
    return b.conv(x, weight(g, SIZE, 1, 31), weight(g, SIZE), pad=((15, 15),), groups=SIZE)


@layer("depthwise 3×3", 1, SIZE, FRAMES, 20)
def _(g, b, x):
    pad = {"stride": (1, 1), "dilation": (1, 1), "pad": ((1, 1), (1, 1))}
    return b.conv(x, weight(g, SIZE, 1, 3, 3), weight(g, SIZE), groups=SIZE, **pad)


@layer("conv 9 in 4 groups", 1, SIZE, FRAMES)
def _(g, b, x):
    return b.relu(b.conv(x, weight(g, SIZE, SIZE // 4, 9), weight(g, SIZE), pad=((4, 4),), groups=4))


@layer("transposed conv 16, stride 8", 1, SIZE, FRAMES)
def _(g, b, x):
    return b.conv_transpose(x, weight(g, SIZE, SIZE // 2, 16), weight(g, SIZE // 2), stride=(8,), pad=((4, 4),))


@layer("shallow conv 3×3, 1 → 256", 1, 1, 1000, 80)
def _(g, b, x):
    two = {"stride": (2, 2), "dilation": (1, 1), "pad": ((0, 0), (0, 0))}
    return b.relu(b.conv(x, weight(g, SIZE, 1, 3, 3), weight(g, SIZE), **two))


@layer("subsampling, 1 → 256 → 256", 1, 1, 1000, 80)
def _(g, b, x):
    two = {"stride": (2, 2), "dilation": (1, 1), "pad": ((0, 0), (0, 0))}
    y = b.relu(b.conv(x, weight(g, SIZE, 1, 3, 3), weight(g, SIZE), **two))
    return b.relu(b.conv(y, weight(g, SIZE, SIZE, 3, 3), weight(g, SIZE), **two))


@layer("attention product, 4 heads", 1, 4, FRAMES, 64)
def _(g, b, x):
    return b.matmul(b.softmax(b.matmul(x, b.transpose(x, perm=(0, 1, 3, 2))), axis=3), x)


@layer("LSTM 256", 1, FRAMES, SIZE)
def _(g, b, x):
    zero = g.weight("zero", np.zeros((1, SIZE), np.float32))
    return b.lstm(x, zero, zero, weight(g, 4 * SIZE, SIZE), weight(g, 4 * SIZE, SIZE), weight(g, 4 * SIZE))[0]


ALL = "linear, conv, depthwise, grouped, shallow, matmul"
ROW = 'quantize{mode="dynamic", kinds="linear", per="row", store="", keep="", least=0}'
TENSOR = 'quantize{mode="dynamic", kinds="%s", store="", keep="", least=0}'
STORED = 'quantize{mode="weights", store="%s", keep="", least=0}'
STATIC = 'quantize{kinds="%s", outputs="%s", glue="%s", activations="%s", store="", keep="", least=0}'
FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnx": {
        "dynamic": (TENSOR % ALL,),
        "static u8": (STATIC % (ALL, "conv, depthwise, grouped, shallow", "", "u8"),),
        "static i8": (STATIC % (ALL, "conv, depthwise, grouped, shallow", "", "i8"),),
        "static, all 8 bits out": (STATIC % (ALL, ALL, "", "u8"),),
        "weights alone": (STORED % "linear, conv, depthwise, grouped, conv_transpose, lstm",),
    },
    "tflite": {
        "dynamic": (ROW, TENSOR % "conv, shallow"),
        "static": ("channels-last", STATIC % (ALL, ALL, "", "i8"), "integer"),
        "static with glue": (
            "channels-last", "split-silu", STATIC % (ALL, ALL, "mul, sigmoid", "i8"), "integer",
        ),
        "static, shallow in float": (
            "channels-last", STATIC % ("linear, conv, depthwise", "linear, conv, depthwise", "", "i8"), "integer",
        ),
        "weights alone": (STORED % "grouped, depthwise, conv_transpose, lstm",),
    },
}  # fmt: skip


def graph_of(name: str) -> Module:
    shape, build = LAYERS[name]
    module = Module()
    g = module.graph("main")
    x = g.input("x", Tensor("f32", shape))
    g.output(build(g, Builder(g, Loc(name)), x), "y")
    return module


def form(module: Module, runtime: str, passes: tuple[str, ...], folder: Path, threads: int, x: np.ndarray):
    """A function that runs the layer in one form; None where the target has no such form or nothing was quantized."""
    made, context = clone(module), Context(samples=[{"x": x}])
    to = target(runtime)
    try:
        Manager(context).run(made, [make(text) for text in (*passes, *to.legalize)])
        if passes and not any(r.kind == "applied" for r in context.remarks):
            return None
        path = folder / f"{len(list(folder.iterdir()))}{to.suffix}"
        to.emit(made, path, "float32", {})
        session = to.load(path, threads, **({"isolated": False} if runtime == "tflite" else {}))
        session.run(x)
    except SpeechcError:
        return None
    return lambda: session.run(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--only", default="", help="runtime to measure; both by default")
    parser.add_argument("--layer", default="", help="measure the layers whose name holds this text")
    given = parser.parse_args()
    for runtime, forms in FORMS.items():
        if given.only not in ("", runtime):
            continue
        table = Table(runtime, "float, ms", *forms, box=None)
        for name, (shape, _) in LAYERS.items():
            if given.layer not in name:
                continue
            module = graph_of(name)
            x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
            with tempfile.TemporaryDirectory() as folder:
                runs = {"float": form(module, runtime, (), Path(folder), given.threads, x)}
                for label, passes in forms.items():
                    runs[label] = form(module, runtime, passes, Path(folder), given.threads, x)
                times = side_by_side({k: r for k, r in runs.items() if r is not None}, blocks=given.blocks)
            found = [f"{ratio(times, 'float', label):.2f}" if runs[label] else "-" for label in forms]
            table.add_row(name, f"{1000 * float(np.median(times['float'])):.2f}", *found)
        Console(width=120).print(table)


if __name__ == "__main__":
    main()

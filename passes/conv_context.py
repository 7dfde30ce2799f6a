"""Take the right context from convolutions over time, all of it or what lies beyond the end of a chunk."""

from __future__ import annotations

from typing import NamedTuple

from ..ir.errors import UsageError
from ..ir.expr import ceildiv
from ..ir.graph import Builder, Graph, Op, Value
from ..ir.registry import COMMON
from ..ir.types import Dim, Tensor
from .base import Context, Pass
from .durations import MEASURED, frames_of

MODES = ("causal", "chunk")
WINDOWS = ("conv", "max_pool", "avg_pool")


class Window(NamedTuple):
    """How a window moves along time: on axis `axis` of its operand, which is dimension `at` of its attributes."""

    axis: int
    at: int
    reach: int  # frames from the first to the last that one window sees
    stride: int
    pad: tuple[int, int]


class ConvContext(Pass):
    """Make convolutions and pools over time see less of what comes after a frame.

    "causal": padding on the right moves to the left, so the output is as long as before and sees no future (van den
    Oord et al. 2016). Mirrored padding, which is the future, becomes zeros. Transposed convolutions crop at the end
    what they cropped on both sides. `frames` does it to frames as well (a centred STFT).

    "chunk": a convolution of stride 1 over `chunk` ticks of the clock sees its frames of left context, the frames of
    its own chunk, and zeros from the chunk's end on (dynamic chunk convolution, Li et al. 2023). Strided and
    two-dimensional convolutions keep their context and their delay.

    Raises `UnsupportedError` SC212 where a chunk is not a whole number of a convolution's frames.
    """

    name, stage, equal = "conv-context", "streaming", MEASURED
    mode: str = "causal"
    chunk: int = 16
    frames: bool = False

    def run(self, graph: Graph, context: Context) -> None:
        if self.mode not in MODES or self.chunk < 1:
            raise UsageError("SC020", f"{self}: mode is one of {', '.join(MODES)}, chunk at least 1")
        for op in list(graph.ops):
            if op.graph is None:
                continue
            if op.kind == "pad":
                self._pad(graph, op, context)
            elif op.kind == "conv_transpose" and self.mode == "causal":
                self._transposed(graph, op, context)
            elif (window := moving(op)) is not None and op.kind in WINDOWS:
                self._window(graph, op, window, context)

    def _window(self, graph: Graph, op: Op, window: Window, context: Context) -> None:
        last, right = _cropped(op, window)
        left = window.pad[0]
        if right <= 0:
            return
        if left + right > window.reach - (window.stride == 1):
            self._missed(context, op, f"pads by {window.pad} for a window of {window.reach} frames")
            return
        if self.mode == "causal":
            if context.allow():
                self._replace(graph, op, last, with_pad(op, window.at, (left + right, 0)), context)
            return
        wrong = _unfit(op, window, left + right)
        if wrong is not None:
            self._missed(context, op, f"{wrong}: it keeps its right context of {right} frames")
            return
        frames = frames_of(self.chunk, op.operands[0].type.shape[window.axis].time, "a chunk", op)
        if context.allow():
            self._by_chunk(graph, op, last, window, (left, right), frames, context)

    def _replace(self, graph: Graph, op: Op, last: Op, attrs: dict, context: Context, kind: str | None = None) -> None:
        """`op` with other attributes in place of `last`, which crops it or is it."""
        g = Builder(graph, op.loc.through(self.name), before=op)
        graph.replace(last.result, g.emit(kind or op.kind, op.operands, attrs))
        self._applied(context, op, "sees no future")
        for gone in dict.fromkeys((last, op)):
            graph.erase(gone)

    def _by_chunk(self, graph: Graph, op: Op, last: Op, window: Window, context_frames, chunk: int, context) -> None:
        """Windows of the left context and one chunk, stacked, and a convolution along each."""
        (left, right), (x, w, b) = context_frames, op.operands
        g = Builder(graph, op.loc.through(self.name), before=op)
        channel_last, frames = op.attrs["channel_last"], x.type.shape[window.axis].size
        x = g.transpose(x, perm=(0, 2, 1)) if channel_last else x
        count = ceildiv(frames, chunk)
        x = g.pad(x, pads=((0, 0), (0, 0), (left, count * chunk - frames)))
        x = g.frame(x, size=left + chunk, hop=chunk)
        attrs = {
            "stride": (1, 1),
            "dilation": (1, *op.attrs["dilation"]),
            "pad": ((0, 0), (0, right)),
            "groups": op.attrs["groups"],
            **{k: v for k, v in op.attrs.items() if k in COMMON},
        }
        y = g.emit("conv", (x, _square(g, w), b), attrs)
        norm = _only_reader(last)
        if norm is not None and norm.kind == "batch_norm" and norm.attrs["axis"] == 1 and not channel_last:
            with g.at(norm.loc.through(self.name)):  # stays beside its convolution, to be folded into it
                y = g.emit("batch_norm", (y, *norm.operands[1:]), norm.attrs)
            last, gone = norm, (norm, last, op)
        else:
            gone = (last, op)
        y = g.reshape(y, shape=(*y.type.sizes[:2], count * chunk))
        y = g.slice(y, axis=2, start=0, stop=frames)
        graph.replace(last.result, g.transpose(y, perm=(0, 2, 1)) if channel_last else y)
        self._applied(context, op, f"sees zeros from the end of its chunk of {chunk} frames on")
        for dead in dict.fromkeys(gone):
            graph.erase(dead)

    def _pad(self, graph: Graph, op: Op, context: Context) -> None:
        """Padding that could not become that of the window behind it: another value, mirrored, or of frames."""
        axis = next((i for i, d in enumerate(op.result.type.shape) if d.time is not None), None)
        if axis is None:
            return
        (left, right), readers = op.attrs["pads"][axis], list(op.result.users)
        windows = [w for w in map(moving, readers) if w is not None]
        if not isinstance(right, int) or right <= 0 or not readers or len(windows) < len(readers):
            return
        if any(r.kind == "frame" for r in readers) and not self.frames:
            self._missed(context, op, "frames keep their right context (frames=True takes it)")
            return
        if self.mode == "chunk":
            self._missed(context, op, f"{op.attrs['mode']} padding keeps its right context of {right} frames")
            return
        if any(w.axis != axis or left + right + sum(w.pad) > w.reach for w in windows):
            self._missed(context, op, f"pads by {(left, right)}, more than the window behind it sees")
            return
        if not context.allow():
            return
        pads = tuple((left + right, 0) if i == axis else p for i, p in enumerate(op.attrs["pads"]))
        mirrored = {"mode": "constant", "value": 0.0} if op.attrs["mode"] == "reflect" else {}
        self._replace(graph, op, op, {**op.attrs, "pads": pads, **mirrored}, context)

    def _transposed(self, graph: Graph, op: Op, context: Context) -> None:
        for at, d in enumerate(_space(op)):
            front, back = op.attrs["pad"][at]
            if d.time is not None and front and context.allow():
                self._replace(graph, op, op, with_pad(op, at, (0, front + back)), context)
                return

    def _missed(self, context: Context, op: Op, reason: str) -> None:
        context.remark("missed", self.name, f"{op.kind} {reason}", op)

    def _applied(self, context: Context, op: Op, what: str) -> None:
        context.remark("applied", self.name, f"{op.kind} {what}", op)


def moving(op: Op) -> Window | None:
    """How the window of a convolution, a pool or frames moves along time; None where it does not."""
    if op.kind == "frame":
        d = op.operands[0].type.shape[-1]
        rank = op.operands[0].type.rank
        return Window(rank - 1, 0, op.attrs["size"], op.attrs["hop"], (0, 0)) if d.time is not None else None
    if op.kind not in WINDOWS:
        return None
    along = [i for i, d in enumerate(_space(op)) if d.time is not None]
    if len(along) != 1:
        return None
    (at,) = along
    kernel = op.operands[1].type.sizes[2:] if op.kind == "conv" else op.attrs["kernel"]
    dilation = op.attrs["dilation"][at] if "dilation" in op.attrs else 1
    axis = at + (1 if op.attrs["channel_last"] else 2)
    return Window(axis, at, (kernel[at] - 1) * dilation + 1, op.attrs["stride"][at], op.attrs["pad"][at])


def _space(op: Op) -> tuple[Dim, ...]:
    shape = op.operands[0].type.shape
    return shape[1:-1] if op.attrs["channel_last"] else shape[2:]


def with_pad(op: Op, at: int, pad: tuple[int, int]) -> dict:
    """The attributes of `op` with another padding along one of its dimensions."""
    return {**op.attrs, "pad": tuple(pad if i == at else p for i, p in enumerate(op.attrs["pad"]))}


def _cropped(op: Op, window: Window) -> tuple[Op, int]:
    """What ends the window op, and the right padding left: a crop at the end behind it takes back some of it."""
    right, reader = window.pad[1], _only_reader(op)
    if reader is None or reader.kind != "slice" or window.stride != 1 or reader.attrs["axis"] != window.axis:
        return op, right
    crop = op.result.type.shape[window.axis].size - reader.attrs["stop"]
    fits = isinstance(crop, int) and 0 <= crop <= right and reader.attrs["start"] == 0 and reader.attrs["step"] == 1
    return (reader, right - crop) if fits else (op, right)


def _only_reader(op: Op) -> Op | None:
    if len(op.result.users) != 1 or any(v is op.result for v in op.graph.outputs):
        return None
    return next(iter(op.result.users))


def _unfit(op: Op, window: Window, context_frames: int) -> str | None:
    """Why a window op cannot be run by chunk."""
    if op.kind != "conv":
        return "is no convolution"
    if len(op.attrs["stride"]) != 1:
        return "has two dimensions"
    if window.stride != 1:
        return f"has a stride of {window.stride}"
    if context_frames != window.reach - 1:
        return f"pads by {window.pad} for a window of {window.reach} frames"
    x, w = op.operands[:2]
    if x.type.quant is not None or w.type.quant is not None:
        return "is quantized"
    return None if w.kind == "weight" else "has weights computed at run time"


def _square(g: Builder, w: Value) -> Value:
    """[outputs, inputs, K] as [outputs, inputs, 1, K]."""
    outputs, inputs, taps = w.type.sizes
    shape = (outputs, inputs, 1, taps)
    return g.derived(f"{w.name}.row", f"reshape{shape}", Tensor(w.type.dtype, shape), lambda a: a.reshape(shape), w)

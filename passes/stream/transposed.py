"""Ops that make several frames of one: transposed convolution, overlap-add, upsampling.

A transposed convolution of reach K and stride s makes of a stream that is d frames late one that is d·s + p late, if
p frames are cropped in front. Either the last ⌊(K - 1) / s⌋ inputs are kept, or the K - s sums that are not complete
yet: whichever is less.
"""

from __future__ import annotations

from ...ir.graph import Op, Value
from ...ir.types import Dim, Tensor, Time
from .facts import Pads, Stream, refuse
from .rules import rule
from .step import Step, static_pads
from .window import Window, along_time, windowed


@rule("conv_transpose")
def _(step: Step, op: Op) -> Stream:
    x = step.plain(step.fact(op.operands[0]))
    w, bias = (None if v is None else step.fact(v).value for v in op.operands[1:])
    at = along_time(step, op, x)
    if at is None:
        return step.stream(op.result, step.b.emit("conv_transpose", (x.value, w, bias), step.sizes.attr_map(op)))
    a = op.attrs
    stride, reach = a["stride"][at], (op.operands[1].type.sizes[2 + at] - 1) * a["dilation"][at] + 1
    front, behind = static_pads(a["pad"][at], op)
    extra = a["output_pad"][at]
    # Sums over frames that are none would show where the kernel reaches past the crop.
    x = step.masked(x, 0.0, front=reach - front > stride, behind=reach - behind + extra > stride)
    bare = {**a, "pad": _without(a["pad"], at, (0, 0)), "output_pad": _without(a["output_pad"], at, 0)}
    axis = x.axis
    outputs = op.result.type.sizes[1 if not a["channel_last"] else -1]
    inputs = op.operands[0].type.sizes[1 if not a["channel_last"] else -1]
    inside = (reach - 1) // stride * inputs <= max(reach - stride, 0) * outputs or a.get("out") or a.get("then")
    if inside or reach <= stride:
        if reach < stride:  # a kernel shorter than the stride leaves silence behind it
            bare["output_pad"] = _without(a["output_pad"], at, stride - reach)
        y = _from_inputs(step, x, stride, reach, lambda v: step.b.emit("conv_transpose", (v, w, bias), bare))
    else:
        made = step.b.emit("conv_transpose", (x.value, w, None), bare)
        y = overlapped(step, made, axis, step.frames(x.time) * stride, reach - stride)
        if bias is not None:
            y = step.b.add(y, step.b.reshape(bias, shape=_beside(y, a["channel_last"])))
    time = Time(x.time.clock, x.time.rate * stride, x.time.delay * stride + front, step.length(op.result, axis))
    return step.settled(op.result, y, axis, time)


def _without(values: tuple, at: int, nothing):
    return tuple(nothing if i == at else v for i, v in enumerate(values))


def _beside(y: Value, channel_last: bool) -> tuple[int, ...]:
    channel = y.type.rank - 1 if channel_last else 1
    return tuple(s if i == channel else 1 for i, s in enumerate(y.type.sizes))


def _from_inputs(step: Step, x: Stream, stride: int, reach: int, run) -> Value:
    """All sums that are complete, from the inputs that take part in them."""
    past = (reach - 1) // stride
    y = run(step.history(x, past, "history"))
    made = step.frames(x.time) * stride
    return step.piece(y, x.axis, past * stride, past * stride + made)


def _filled(step: Step, y: Value, axis: int, missing: int) -> Value:
    bare = step.b.retime(y, axis=axis, to=Dim(y.type.sizes[axis]))
    pads = tuple((0, missing if i == axis else 0) for i in range(y.type.rank))
    return step.b.pad(bare, pads=pads)


def overlapped(step: Step, y: Value, axis: int, made: int, open_: int) -> Value:
    """The first `made` sums of a step that are complete; the `open_` behind them wait for the next step.

    y holds made + open_ frames of which the first open_ lack what earlier steps put there.
    """
    b = step.b
    y = b.retime(y, axis=axis, to=Dim(made + open_))
    shape = [open_ if i == axis else s for i, s in enumerate(y.type.sizes)]
    state = step.graph.state(step.name("overlap"), Tensor(y.type.dtype, shape))
    before = b.read(state)
    pads = tuple((0, made if i == axis else 0) for i in range(y.type.rank))
    total = b.add(y, b.pad(before, pads=pads))
    b.write(state, step.piece(total, axis, made, made + open_))
    return step.piece(total, axis, 0, made)


@rule("overlap_add")
def _(step: Step, op: Op) -> Stream:
    x, hop = step.plain(step.fact(op.operands[0])), op.attrs["hop"]
    rank = x.value.type.rank
    if x.axis != rank - 2:
        if x.axis == rank - 1:
            raise refuse("SC203", "it adds up the frames of the whole utterance", op)
        return step.stream(op.result, step.b.emit("overlap_add", (x.value,), step.sizes.attr_map(op)))
    size = x.value.type.sizes[-1]
    x = step.masked(x, 0.0, front=size > hop, behind=size > hop)
    y = step.b.overlap_add(x.value, hop=hop)
    made, axis = step.frames(x.time) * hop, op.result.type.rank - 1
    if size > hop:
        y = overlapped(step, y, axis, made, size - hop)
    elif size < hop:
        y = _filled(step, y, axis, hop - size)
    time = Time(x.time.clock, x.time.rate * hop, x.time.delay * hop, step.length(op.result, axis))
    return step.settled(op.result, y, axis, time)


@rule("resize")
def _(step: Step, op: Op) -> Stream:
    x, scale = step.plain(step.fact(op.operands[0])), op.attrs["scale"]
    axis, linear = x.axis, op.attrs["linear"]
    if op.attrs["axis"] % x.value.type.rank != axis or not linear or scale == 1:
        return step.stream(op.result, step.b.emit("resize", (x.value,), op.attrs))
    # Frame n lies between two frames of the input: half of them need the next one.
    early = scale // 2
    delay, frames = x.time.delay * scale + early, step.frames(x.time)
    seen = windowed(step, x, Window(2, 1), Pads(1, 1, "edge"))  # pairs of neighbours; windows(b) + 1 frames
    late = seen.type.shape[axis].time.delay  # of the padded stream's numbers
    pairs = step.b.retime(seen, axis=axis, to=Dim(frames + 1))
    y = step.b.resize(pairs, axis=axis, scale=scale, linear=True)
    # Padded frame m is frame m - 1: sample i of y is frame (k·b - late - 1)·scale + i of the result.
    start = (late + 1) * scale - delay
    y = step.piece(y, axis, start, start + frames * scale)
    time = Time(x.time.clock, x.time.rate * scale, delay, step.length(op.result, axis))
    return step.settled(op.result, y, axis, time)

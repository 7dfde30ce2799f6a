"""Recurrent layers: a WHILE loop over frames, or (by option) the fused LSTM kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...ir.graph import Op, Value
from .body import Body, T
from .registry import lower, refuse
from .sizes import size_value

BLOCK = 32  # frames; the results of all frames are copied once a block, not once a frame


def scan(e, x: T, carry: Sequence[T], weights: Sequence[T | None], step: Callable, reverse: bool) -> tuple[T, ...]:
    """Run `step(body, frame, carry, weights) -> carry` over the frames of x [B, T, G].

    Gives what the first carry [B, P] was at every frame, [B, T, P], and the last carry. Constant weights are constants
    of the loop's body; the others go through it unchanged. A loop over blocks of frames holds one over frames.
    """
    batch, frames, width = x.sizes
    count = size_value(e, frames)
    moving = [w for w in weights if w is not None and w.array is None and w.stored is None]
    first = (
        e.mul(e.binary("FLOOR_DIV", e.sub(count, 1), e.scalar(BLOCK, "i32")), BLOCK) if reverse else e.scalar(0, "i32")
    )
    # Every frame is written before it is read, so any tensor of the right shape can start the results.
    stack = e.pad(e.slice(x, 2, 0, carry[0].sizes[-1]), ((0, 0), (0, BLOCK), (0, 0)))

    def over_blocks(body: Body, base: T, count: T, frames_in: T, stack: T, *rest: T) -> list[T]:
        end = body.minimum(body.add(base, BLOCK), count)
        index = body.minimum(body.add(body.const(np.arange(BLOCK, dtype=np.int32)), base), body.sub(count, 1))
        block_in = body.op("GATHER", [frames_in, index], "f32", (batch, BLOCK, width), axis=1, batchDims=0)
        size = body.sub(end, base)
        start = [
            body.sub(size, 1) if reverse else body.scalar(0, "i32"),
            size,
            block_in,
            body.slice(stack, 1, 0, BLOCK),
        ]
        _, _, _, block, *rest = loop(body, [*start, *rest], going(reverse), over_frames)
        stack = update(body, stack, block, base)
        return [body.add(base, -BLOCK if reverse else BLOCK), count, frames_in, stack, *rest]

    def over_frames(body: Body, at: T, size: T, block_in: T, block: T, *rest: T) -> list[T]:
        inner = iter(rest[len(carry) :])
        inside = [next(inner) if w in moving else within(body, w) for w in weights]
        frame = body.op("GATHER", [block_in, at], "f32", (batch, width), axis=1, batchDims=0)
        new = step(body, frame, rest[: len(carry)], inside)
        block = update(body, block, body.reshape(new[0], (batch, 1, new[0].sizes[-1])), at)
        return [body.add(at, -1 if reverse else 1), size, block_in, block, *new, *rest[len(carry) :]]

    _, _, _, stack, *last = loop(e, [first, count, x, stack, *carry, *moving], going(reverse), over_blocks)
    return (e.slice(stack, 1, 0, frames), *last[: len(carry)])


def going(reverse: bool) -> Callable:
    """Whether a loop goes on: at >= 0 backwards, at < end forwards."""
    if reverse:
        return lambda cond, at, *rest: cond.binary("LESS_EQUAL", cond.scalar(0, "i32"), at, "bool")
    return lambda cond, at, end, *rest: cond.binary("LESS", at, end, "bool")


def loop(e: Body, start: list[T], test: Callable, step: Callable) -> list[T]:
    """WHILE `test(body, *values)`: values = `step(body, *values)`; both are written as subgraphs."""
    parts = []
    for name, make in (("while_cond", test), ("while_body", step)):
        body = Body(e.file, f"{e.place}/{name}", e.typical)
        body.scales = e.scales
        values = [body.tensor(f"{body.place}/{n}", t.dtype, t.sizes, t.quant) for n, t in enumerate(start)]
        made = make(body, *values)
        body.declare(values, made if isinstance(made, list) else [made])
        parts.append(body.graph)
    results = [e.tensor(f"{e.place}/while", t.dtype, t.sizes) for t in start]
    e.emit("WHILE", start, results, condSubgraphIndex=parts[0], bodySubgraphIndex=parts[1])
    return results


def update(body: Body, whole: T, part: T, at: T) -> T:
    """`whole` [B, T, P] with `part` at frame `at`."""
    zero = body.const(np.zeros(1, np.int32))
    start = body.op("CONCATENATION", [zero, body.reshape(at, (1,)), zero], "i32", (3,), axis=0)
    return body.op("DYNAMIC_UPDATE_SLICE", [whole, part, start], "f32", whole.sizes)


def within(body: Body, w: T | None) -> T | None:
    """A constant of the graph in the body of a loop."""
    if w is None or w.stored is None:
        return w and body.const(w.array, quant=w.quant)
    return body.widen(body.const(w.stored.array, quant=w.stored.quant))


def product(body: Body, x: T, w: T, b: T | None = None) -> T:
    """x wᵀ + b."""
    sizes = (*x.sizes[:-1], w.sizes[0])
    if w.array is not None or w.stored is not None:
        bias = b if b is not None else body.const(np.zeros(w.sizes[0], np.float32))
        return body.op("FULLY_CONNECTED", [x, w, bias], "f32", sizes, keepNumDims=True, fusedActivationFunction=0,
                       asymmetricQuantizeInputs=True)  # fmt: skip
    y = body.op("BATCH_MATMUL", [x, w], "f32", sizes, adjX=False, adjY=True)
    return y if b is None else body.add(y, b)


def parts(body: Body, x: T, count: int) -> list[T]:
    """The gates of a row."""
    width = x.sizes[-1] // count
    return [body.slice(x, x.rank - 1, i * width, (i + 1) * width) for i in range(count)]


@lower("lstm")
def lstm(e, op: Op, x: T, h: T, c: T, w: T, r: T, b: T | None, proj: T | None):
    if e.options.get("fused_lstm") and fits_fused(op):
        return fused(e, op, x, w, r, b, proj)

    def step(body, frame, carry, weights):
        h, c = carry
        r, proj = weights
        i, f, g, o = parts(body, body.add(product(body, h, r), frame), 4)
        i, f, o = (body.unary("LOGISTIC", t) for t in (i, f, o))
        c = body.add(body.mul(f, c), body.mul(i, body.unary("TANH", g)))
        h = body.mul(o, body.unary("TANH", c))
        return (h if proj is None else product(body, h, proj)), c

    return scan(e, product(e, x, w, b), (h, c), (r, proj), step, op.attrs["reverse"])


@lower("gru")
def gru(e, op: Op, x: T, h: T, w: T, r: T, b: T | None, rb: T | None):
    def step(body, frame, carry, weights):
        (h,), (r, rb) = carry, weights
        ar, az, an = parts(body, frame, 3)
        sr, sz, sn = parts(body, product(body, h, r, rb), 3)
        reset, z = (body.unary("LOGISTIC", body.add(p, q)) for p, q in ((ar, sr), (az, sz)))
        n = body.unary("TANH", body.add(an, body.mul(reset, sn)))
        return (body.add(n, body.mul(z, body.sub(h, n))),)

    return scan(e, product(e, x, w, b), (h,), (r, rb), step, op.attrs["reverse"])


@lower("rnn")
def rnn(e, op: Op, x: T, h: T, w: T, r: T, b: T | None):
    act = "RELU" if op.attrs["relu"] else "TANH"

    def step(body, frame, carry, weights):
        return (body.unary(act, body.add(product(body, carry[0], weights[0]), frame)),)

    return scan(e, product(e, x, w, b), (h,), (r,), step, op.attrs["reverse"])


@refuse("lstm", "gru", "rnn")
def known_widths(op: Op) -> str | None:
    if not all(isinstance(s, int) for s in (*op.operands[1].type.sizes, op.operands[0].type.sizes[2])):
        return "a batch or width that is not known"
    return None


# -- the fused kernel ----------------------------------------------------------------------------------------------
def fits_fused(op: Op) -> bool:
    """Whether the fused kernel computes this: states start at zero, and nobody reads the last ones."""
    _, h, c, w, r, b, proj = op.operands
    known = all(v is None or v.known for v in (w, r, b, proj))
    return known and _zero(h) and _zero(c) and not any(v.users for v in op.results[1:]) and not _is_output(op)


def _zero(v: Value) -> bool:
    while v.op is not None and v.op.kind in ("expand", "reshape"):
        v = v.op.operands[0]
    return v.known and not np.any(v.array)


def _is_output(op: Op) -> bool:
    return any(o is r for o in op.graph.outputs for r in op.results[1:])


def fused(e, op: Op, x: T, w: T, r: T, b: T | None, proj: T | None):
    """UNIDIRECTIONAL_SEQUENCE_LSTM: 24 inputs, its states are variables that last until they are reset."""
    batch, hidden, width = x.sizes[0], w.sizes[0] // 4, r.sizes[1]
    back = e.const(np.array([1], np.int32))
    if op.attrs["reverse"]:
        x = e.op("REVERSE_V2", [x, back], "f32", x.sizes)

    def gates(t: T, how: str) -> list[T]:
        return [e.derived(t, f"{how}{i}", np.ascontiguousarray(a)) for i, a in enumerate(np.split(t.array, 4))]

    biases = e.const(np.zeros(4 * hidden, np.float32)) if b is None else b
    states = [
        e.tensor(f"{e.place}/{n}", "f32", (batch, size), variable=True) for n, size in (("h", width), ("c", hidden))
    ]
    inputs = [x, *gates(w, "w"), *gates(r, "r"), None, None, None, *gates(biases, "b"), proj, None, *states] + [
        None
    ] * 4
    y = e.tensor(f"{e.place}/lstm", "f32", (*x.sizes[:2], width))
    mutable = [i in (18, 19) for i in range(len(inputs))]
    e.emit("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], mutable, fusedActivationFunction=4, timeMajor=False)
    e.resets = True
    if op.attrs["reverse"]:
        y = e.op("REVERSE_V2", [y, back], "f32", y.sizes)
    return y, None, None

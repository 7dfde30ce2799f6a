"""What a graph costs: multiply-accumulates against ones counted by hand and torch's, memory against brute force."""

import math
import random

import numpy as np
import pytest
from speechc.ir.cost import MACS, Cost, cost
from speechc.ir.expr import evaluate, symbol
from speechc.ir.graph import Builder, Graph, Loc
from speechc.ir.interpreter import bind_sizes
from speechc.ir.liveness import VIEWS, dominant, levels, peak_bytes
from speechc.ir.registry import OPS, definition
from speechc.ir.types import DTYPES, Quant, Tensor, time_input

T = symbol("T")


def graph_of(build, *types):
    """A graph with an input of each type, and `build(builder, *inputs)` as its output."""
    graph = Graph()
    values = [graph.input(f"x{i}", Tensor("f32", t) if isinstance(t, tuple) else t) for i, t in enumerate(types)]
    graph.output(build(Builder(graph, Loc("m")), *values), "y")
    return graph


# (ops, types of the inputs, multiply-accumulates counted by hand)
COUNTED = {
    "matmul": (lambda b, x, y: b.matmul(x, y), [(2, 1, 3, 5), (4, 5, 7)], 2 * 4 * 3 * 7 * 5),
    "linear": (lambda b, x, w, c: b.linear(x, w, c), [(2, 9, 5), (7, 5), (7,)], 2 * 9 * 7 * 5),
    "conv": (lambda b, x, w: b.conv(x, w, None, stride=(2,)), [(1, 4, 11), (6, 4, 3)], 6 * 5 * 4 * 3),
    "conv, depthwise": (lambda b, x, w: b.conv(x, w, None, groups=4), [(1, 4, 11), (4, 1, 3)], 4 * 9 * 3),
    "conv, 2-D": (
        lambda b, x, w: b.conv(x, w, None, stride=(2, 1), dilation=(1, 1), pad=((1, 1), (0, 0))),
        [(1, 2, 8, 9), (3, 2, 3, 3)],
        3 * 4 * 7 * 2 * 3 * 3,
    ),
    "conv, channels last": (lambda b, x, w: b.conv(x, w, channel_last=True), [(1, 11, 4), (6, 4, 3)], 6 * 9 * 4 * 3),
    # every one of the 10 input frames adds 4 taps in each of 3 outputs for each of 6 channels in 2 groups
    "conv_transpose": (
        lambda b, x, w: b.conv_transpose(x, w, None, stride=(2,), groups=2), [(1, 6, 10), (6, 3, 4)], 10 * 6 * 3 * 4,
    ),
    "attention": (
        lambda b, q, k, v: b.attention(q, k, v, scale=1.0), [(2, 4, 6, 8), (2, 2, 9, 8), (2, 2, 9, 5)],
        2 * 4 * 6 * 9 * (8 + 5),
    ),
    "lstm": (
        lambda b, x, h, c, w, r, bias, p: b.lstm(x, h, c, w, r, bias, p)[0],
        [(2, 5, 3), (2, 4), (2, 6), (24, 3), (24, 4), (24,), (4, 6)], 2 * 5 * (24 * 3 + 24 * 4 + 4 * 6),
    ),
    "gru": (
        lambda b, x, h, w, r: b.gru(x, h, w, r)[0], [(2, 5, 3), (2, 4), (12, 3), (12, 4)], 2 * 5 * (12 * 3 + 12 * 4),
    ),
    "rnn": (lambda b, x, h, w, r: b.rnn(x, h, w, r)[0], [(1, 5, 3), (1, 4), (4, 3), (4, 4)], 5 * (4 * 3 + 4 * 4)),
    "relu": (lambda b, x: b.relu(x), [(2, 5)], 0),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_macs_by_hand(name):
    build, types, expected = COUNTED[name]
    assert cost(graph_of(build, *types)).macs == expected


def test_every_op_that_multiplies_is_tested():
    assert set(MACS) == {name.partition(",")[0] for name in COUNTED} - {"relu"}
    assert set(MACS) <= set(OPS)


def test_sizes_stay_symbolic_and_are_saved():
    linear = lambda b, x: b.linear(x, b.weight("w", np.zeros((7, 5), "float32")))
    graph = graph_of(linear, Tensor("f32", (1, time_input(T, "audio"), 5)))
    made = cost(graph)
    assert (str(made.macs), made.parameters, made.weight_bytes) == ("35*T", 35, 140)
    assert str(made.activation_bytes) == "48*T" and made.modules["m"].parameters == 35
    assert Cost.of(made.as_dict()) == made


def test_integers_are_told_apart():
    q = lambda *shape: Tensor("i8", shape, Quant(0.1, 0))
    both = graph_of(lambda b, x, w: b.linear(x, w), q(3, 5), q(7, 5))
    weight = graph_of(lambda b, x, w: b.linear(x, w), (3, 5), q(7, 5))
    running = graph_of(lambda b, x, w: b.linear(x, w, dynamic="row"), (3, 5), q(7, 5))
    assert [cost(g).int8_macs for g in (both, weight, running)] == [105, 0, 105]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["keyword_spotter", "separable_tcn", "wav2vec2_conformer", "parakeet", "conformer", "whisper_encoder",
             "speech2text_encoder", "transformer", "attention_banded", "gru", "lstm", "bilstm"]
)  # fmt: skip
def test_macs_as_torch_counts_them(name):
    """torch counts two operations a multiply-accumulate, and sees neither fused attention nor fused recurrences."""
    torch = pytest.importorskip("torch")
    from models import MODELS
    from speechc.compiler.driver import read_subject
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    case = MODELS[name]()
    graph = read_subject(case.module, case.inputs, case.time_axis).module.main
    sizes = bind_sizes(graph, {n: x.numpy() for n, x in case.inputs.items()})
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        plain = torch.backends.mkldnn.flags(enabled=False)
        with plain, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            case.module(*case.inputs.values())
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert evaluate(cost(graph).macs, sizes) == counter.get_total_flops() / 2


# -- memory ------------------------------------------------------------------------------------------------------------
def drawn(seed: int, ops: int = 25) -> Graph:
    """A random graph of elementwise ops, views, copies, products and states over tensors of 4 rows."""
    rng = random.Random(seed)
    graph = Graph()
    b = Builder(graph)
    values = [graph.input(f"x{i}", Tensor("f32", (rng.choice((2, 3, 4)), 4))) for i in range(2)]
    state = graph.state("s", Tensor("f32", (2, 4)))
    values.append(b.history(values[0], state, axis=0))
    for _ in range(ops):
        x = rng.choice(values[-6:])
        rows, columns = x.type.sizes
        kind = rng.choice(("relu", "add", "reshape", "concat", "matmul", "slice", "cast", "twice"))
        match kind:
            case "relu":
                made = b.relu(x)
            case "add":
                same = [v for v in values if v.type == x.type]
                made = b.add(x, rng.choice(same))
            case "reshape":
                made = b.reshape(x, shape=(columns, rows))
            case "concat":
                fits = [v for v in values if v.type.sizes[1] == columns and v.type.sizes[0] + rows <= 12]
                made = b.concat(x, rng.choice(fits), axis=0) if fits else b.neg(x)
            case "matmul":
                made = b.matmul(x, b.transpose(x, perm=(1, 0)))
                made = b.slice(made, axis=1, start=0, stop=min(rows, 4))
            case "slice":
                made = b.slice(x, axis=0, start=0, stop=max(1, rows - 1))
            case "cast":
                made = b.cast(b.less(x, x), dtype="f32")
            case "twice":
                made = b.mul(x, x)
        values.append(made)
    for i, v in enumerate(rng.sample(values[2:], 2)):
        graph.output(v, f"y{i}")
    graph.sweep()
    return graph


def brute(graph: Graph, in_place: bool) -> list[int]:
    """Bytes at every op from the definition: a set of buffers, each asked whether anybody still needs it."""
    ops = list(graph.ops)
    buffer = {v: v for v in graph.inputs}
    for op in ops:
        for r in op.results:
            buffer[r] = buffer.get(op.operands[0]) if op.kind in VIEWS else r
    nbytes = lambda v: math.prod(v.type.sizes) * DTYPES[v.type.dtype].itemsize
    outside = {buffer[v] for v in (*graph.inputs, *graph.outputs)}

    def needed(buf, at):
        readers = [i for i, op in enumerate(ops) if any(buffer.get(v) is buf for v in op.operands)]
        made = -1 if buf in graph.inputs else next(i for i, op in enumerate(ops) if buf in op.results)
        return made <= at and (buf in outside or at <= max([made, *readers]))

    buffers = {b for b in buffer.values() if b is not None}
    totals, states = [sum(map(nbytes, graph.inputs))], 0
    for at, op in enumerate(ops):
        states += sum(nbytes(v) for v in op.operands if v.kind == "state") if op.kind == "history" else 0
        total = sum(nbytes(b) for b in buffers if needed(b, at)) + states
        if in_place and definition(op.kind).family == "pointwise":
            dead = [buffer.get(v) for v in op.operands]
            dead = [b for b in dead if b is not None and not needed(b, at + 1) and nbytes(b) == nbytes(op.result)]
            total -= nbytes(op.result) if dead else 0
        totals.append(total)
    return totals


@pytest.mark.parametrize("in_place", [True, False])
def test_liveness_is_what_brute_force_finds(in_place):
    for seed in range(60):
        graph = drawn(seed)
        assert [level for _, level in levels(graph, in_place)] == brute(graph, in_place), f"seed {seed}\n{graph}"
        assert peak_bytes(graph, in_place) == max(brute(graph, in_place))


def test_the_largest_of_symbolic_sizes_is_the_largest_at_every_length():
    rng = random.Random(1)
    quotient = (T + 3) // 4
    for _ in range(50):
        draw = rng.randrange
        sizes = [draw(9) * T * T + draw(40) * quotient + draw(40) * T + draw(-60, 60) for _ in range(8)]
        for n in (1, 2, 3, 7, 50, 1000):
            at = lambda s, n=n: s if isinstance(s, int) else evaluate(s, {"T": n})
            assert at(dominant(sizes)) == max(map(at, sizes))

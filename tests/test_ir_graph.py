"""Graphs: uses, types that know time, verification, state, interpretation."""

import numpy as np
import pytest
from speechc.ir.errors import IRError, SpeechcError
from speechc.ir.expr import symbol
from speechc.ir.graph import Builder, Graph, Loc
from speechc.ir.interpreter import initial_states, run
from speechc.ir.types import Dim, Tensor, Time, time_input
from speechc.ir.verifier import verify

T = symbol("T")


def graph_of(*shape):
    graph = Graph()
    x = graph.input("x", Tensor("f32", shape))
    return graph, x, Builder(graph, Loc("m"))


def test_uses_follow_replacement():
    graph, x, b = graph_of(2)
    a = b.relu(x)
    c = b.neg(a)
    d = b.abs(x)
    graph.output(c, "y")
    graph.replace(a, d)
    assert list(d.users) == [c.op] and not a.users
    assert graph.sweep() == 1
    assert [op.kind for op in graph.ops] == ["abs", "neg"] or [op.kind for op in graph.ops] == ["neg", "abs"]


def test_out_of_step_operands_are_a_type_error():
    graph = Graph()
    a = graph.input("a", Tensor("f32", [1, Dim(8, Time("audio", 1, 0, T))]))
    late = graph.input("b", Tensor("f32", [1, Dim(8, Time("audio", 1, 3, T))]))
    with pytest.raises(IRError, match="out of step") as error:
        Builder(graph, Loc("m")).add(a, late)
    assert "delay" in str(error.value)


def test_time_follows_strides_and_stacking():
    graph, x, b = graph_of(1, 8, time_input(T, "audio"))
    w = b.weight("w", np.zeros((4, 8, 3), np.float32))
    y = b.conv(x, w, None, stride=(2,), pad=((1, 1),))
    assert str(y.type) == "f32[1, 4, ((T+1)//2)@audio(1/2)]"
    z = b.transpose(y, perm=(0, 2, 1))
    even = b.slice(z, axis=1, start=0, stop=2 * ((T + 1) // 4))
    stacked = b.reshape(even, shape=(1, (T + 1) // 4, 8))
    assert str(stacked.type.shape[1]) == "((T+1)//4)@audio(1/4)"


def test_errors_name_the_place():
    graph, x, b = graph_of(1, 3)
    with b.at(Loc("encoder.proj", "Linear", "net.py:7")), pytest.raises(SpeechcError) as error:
        b.linear(x, b.weight("w", np.zeros((2, 4), np.float32)), None)
    assert "encoder.proj (Linear, net.py:7)" in str(error.value)


def test_the_verifier_refuses_what_is_malformed():
    graph, x, b = graph_of(2)
    y = b.relu(x)
    graph.output(y, "y")
    verify(graph)
    y.op.loc = Loc("")
    with pytest.raises(IRError, match="no location"):
        verify(graph)
    y.op.loc = Loc("m")
    y.type = Tensor("f32", [3])
    with pytest.raises(IRError, match="its rule says"):
        verify(graph)


def test_an_op_before_its_operand_is_refused():
    graph, x, b = graph_of(2)
    first = b.relu(x)
    second = b.neg(first)
    graph.output(second, "y")
    op = first.op
    second.op.set_operand(0, x)
    graph.erase(op)
    graph.insert(op, None)
    second.op.set_operand(0, first)
    with pytest.raises(IRError, match="before it is computed"):
        verify(graph)


def test_state_is_read_at_the_start_and_written_at_the_end():
    graph = Graph()
    x = graph.input("x", Tensor("f32", [2]))
    s = graph.state("sum", Tensor("f32", [2]))
    b = Builder(graph, Loc("m"))
    total = b.add(b.read(s), x)
    b.write(s, total)
    graph.output(total, "y")
    verify(graph)
    states = initial_states(graph)
    one = {"x": np.ones(2, np.float32)}
    assert run(graph, one, states)[0].tolist() == [1, 1]
    assert run(graph, one, states)[0].tolist() == [2, 2]
    assert run(graph, one)[0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "takes x"),
        ({"x": np.zeros((1, 3, 2), np.float32)}, "the graph takes"),
        ({"x": np.zeros((1, 3), np.float64)}, "the graph takes"),
        ({"x": np.zeros((2, 3), np.float32)}, "does not fit"),
    ],
)
def test_wrong_feeds_are_refused(feeds, message):
    graph, x, b = graph_of(1, T)
    graph.output(b.relu(x), "y")
    with pytest.raises(SpeechcError, match=message):
        run(graph, feeds)

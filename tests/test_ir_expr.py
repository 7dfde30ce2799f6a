"""Symbolic sizes: arithmetic agrees with integers, equality is decided, text is read back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speechc.ir.bounds import at_most
from speechc.ir.errors import IRError
from speechc.ir.expr import ceildiv, evaluate, floordiv, maximum, minimum, parse_size, same, substitute, symbol, symbols

T, B = symbol("T"), symbol("B")


@st.composite
def sizes(draw, depth=3):
    """A random size and a function that computes it from T with plain integers."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        if draw(st.booleans()):
            n = draw(st.integers(-7, 9))
            return n, lambda t: n
        return T, lambda t: t
    a, f = draw(sizes(depth - 1))
    kind = draw(st.sampled_from(["add", "sub", "scale", "div", "min", "max"]))
    k = draw(st.integers(1, 6))
    if kind == "scale":
        return a * k, lambda t: f(t) * k
    if kind == "div":
        return floordiv(a, k), lambda t: f(t) // k
    b, g = draw(sizes(depth - 1))
    table = {
        "add": (lambda: a + b, lambda t: f(t) + g(t)),
        "sub": (lambda: a - b, lambda t: f(t) - g(t)),
        "min": (lambda: minimum(a, b), lambda t: min(f(t), g(t))),
        "max": (lambda: maximum(a, b), lambda t: max(f(t), g(t))),
    }
    build, meaning = table[kind]
    return build(), meaning


@given(sizes(), st.integers(1, 200))
@settings(max_examples=400, deadline=None)
def test_arithmetic_is_that_of_integers(pair, t):
    size, meaning = pair
    assert evaluate(size, {"T": t}) == meaning(t)


@given(sizes())
@settings(max_examples=300, deadline=None)
def test_text_is_read_back(pair):
    size, _ = pair
    assert parse_size(str(size)) == size


@given(sizes(), sizes())
@settings(max_examples=300, deadline=None)
def test_same_means_equal_at_every_length(one, other):
    (a, f), (b, g) = one, other
    agree = all(f(t) == g(t) for t in range(1, 600))
    assert same(a, b) == agree


@given(sizes(), sizes(), st.integers(1, 50), st.none() | st.integers(0, 400))
@settings(max_examples=100, deadline=None)
def test_at_most_means_at_every_length_within_the_limits(one, other, least, more):
    (a, f), (b, g) = one, other
    most = None if more is None else least + more
    lengths = range(least, 600 if most is None else most + 1)
    assert at_most(a, b, {"T": [least, most]}) == all(f(t) <= g(t) for t in lengths)
    assert at_most(T, B, {}) is None


def test_normal_forms():
    assert (T // 2) // 2 == T // 4
    assert floordiv(2 * T + 1, 2) == T
    assert parse_size("2*((T-3)//4)-1") == 2 * ((T - 3) // 4) - 1
    assert ceildiv(T, 3) == (T + 2) // 3
    assert minimum(T, T + 3, 5) == minimum(5, T)
    assert symbols(minimum(T // 2, B)) == {"T", "B"}
    assert substitute(T // 4, {"T": 4 * B}) == B


def test_equality_beyond_normal_form():
    assert same(maximum(T - 5, 0) + minimum(T, 5), T)
    assert not same(T // 2 + T // 2, T)
    assert same(T // 2 + (T + 1) // 2, T)
    assert same(4 * ((T + 3) // 4), T + (-T) % 4)
    assert not same(T, B)


def test_division_by_what_is_not_positive_is_an_error():
    with pytest.raises(IRError, match="positive"):
        floordiv(T, 0)

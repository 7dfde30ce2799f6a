"""Ranges from histograms: exact extremes, percentiles, least error; grids that hold zero and the whole range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speechc.ir.registry import quantized
from speechc.ir.types import LIMITS
from speechc.passes.calibrate import Histogram, grid


def histogram(*arrays) -> Histogram:
    h = Histogram()
    for a in arrays:
        h.add(np.asarray(a, np.float32))
    return h


def test_min_max_is_exact():
    h = histogram([0.1, -3.7, 2.0], [5.25])
    assert h.range("min-max") == (np.float32(-3.7), 5.25)


# Scaled to bins, a subnormal number below 0 may round to 0, which lies in the bin beside: its width is 2^-52 or more.
NUMBERS = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)


@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=20), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_the_order_of_samples_does_not_matter(samples):
    first, second = histogram(*samples), histogram(*samples[::-1])
    assert np.array_equal(first.counts, second.counts) and first.reach == second.reach
    assert first.counts.sum() == sum(map(len, samples))


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentiles_are_those_of_numpy(percentile):
    x = np.random.default_rng(0).standard_normal(200_000)
    h = histogram(*np.split(x, 10))
    low, high = h.range("percentile", percentile)
    rest = (100 - percentile) / 2
    # A bin is the resolution, and in the tails neighbouring numbers are up to two bins apart.
    assert abs(low - np.percentile(x, rest)) <= 3 * h.width and abs(high - np.percentile(x, 100 - rest)) <= 3 * h.width


def test_percentiles_lie_inside_the_extremes():
    h = histogram(np.arange(100) / 10)
    low, high = h.range("percentile", 99.99)
    assert low == 0 and high == pytest.approx(9.9)


def error(x: np.ndarray, low: float, high: float) -> float:
    g = grid(low, high)
    back = (quantized(x, g.dtype, g.scale, g.zero_point).astype(np.float64) - g.zero_point) * g.scale
    return float(((back - x) ** 2).mean())


@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy", "laplace", "random"])
def test_mse_is_no_worse_than_the_other_methods(draw):
    x = getattr(np.random.default_rng(1), draw)(size=50_000)
    x = np.clip(x, -200, 200).astype(np.float32)
    h = histogram(x)
    best = error(x, *h.range("mse"))
    # The search works on bin centres and in steps of 2 %.
    assert best <= 1.02 * min(error(x, *h.range("min-max")), error(x, *h.range("percentile", 99.99)))
    if draw == "laplace":
        assert best < 0.95 * error(x, *h.range("min-max"))


@given(
    st.floats(-1e3, 1e3, width=32), st.floats(-1e3, 1e3, width=32), st.sampled_from(["i8", "u8"]), st.booleans()
)  # fmt: skip
@settings(deadline=None)
def test_grids_hold_zero_and_the_range(a, b, dtype, symmetric):
    low, high = sorted((a, b))
    g = grid(low, high, dtype, symmetric)
    least, most = LIMITS[dtype]
    assert least <= g.zero_point <= most and g.scale > 0
    first, last = (least - g.zero_point) * g.scale, (most - g.zero_point) * g.scale
    # The zero point is rounded: half a step may be lost at one end.
    assert first - 0.51 * g.scale <= min(low, 0) and last + 0.51 * g.scale >= max(high, 0)
    if symmetric:
        assert g.zero_point == (0 if dtype == "i8" else 128)


def test_infinities_are_left_out_and_nan_is_not():
    h = histogram([1.0, -np.inf, -2.0])
    assert h.range() == (-2.0, 1.0)
    with pytest.raises(ValueError):
        h.add(np.array([np.nan], np.float32))


def test_a_value_that_is_always_zero_has_a_grid():
    h = histogram(np.zeros(5))
    for method in ("min-max", "percentile", "mse"):
        assert grid(*h.range(method)).scale == 1.0

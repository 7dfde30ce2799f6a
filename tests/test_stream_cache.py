"""What attention keeps of the past: keys and values, or what they are computed from where that is less."""

import numpy as np
import pytest
from speechc.compiler.step_runner import run_stream
from speechc.ir.interpreter import run as interpret
from speechc.ir.text import clone, retyped
from speechc.lowering.manifest import manifest_of, state_bytes
from speechc.passes.base import Context, make
from stream_net import LENGTHS, Net, T, assert_alike, signals, step_of

WIDE = 4  # features of a head


def heads(b, y, count):
    z = b.reshape(b.linear(y, b.w(count * WIDE, 3), b.w(count * WIDE)), shape=(b.batch, T, count, WIDE))
    return b.transpose(z, perm=(0, 2, 1, 3))


def rotated(b, z):
    """Rotary positions (Su et al. 2021)."""
    at = b.reshape(b.cast(b.iota(size=T), dtype="f32"), shape=(T, 1))
    angle = b.mul(at, b.reshape(b.w(WIDE), shape=(1, WIDE)))
    one, two = (b.slice(z, axis=3, start=s, stop=s + 2) for s in (0, 2))
    return b.add(b.mul(z, b.cos(angle)), b.mul(b.concat(b.neg(two), one, axis=3), b.sin(angle)))


def plain(b, y):
    return heads(b, y, 2), heads(b, y, 2)


def merged(b, y):
    """One product for both, split by features."""
    both = b.linear(y, b.w(4 * WIDE, 3), b.w(4 * WIDE))
    for start in (0, 2 * WIDE):
        part = b.slice(both, axis=2, start=start, stop=start + 2 * WIDE)
        yield b.transpose(b.reshape(part, shape=(b.batch, T, 2, WIDE)), perm=(0, 2, 1, 3))


def normed(b, y):
    y = b.layer_norm(y, b.w(3), b.w(3), axis=2, eps=1e-5)
    return plain(b, b.add(y, b.log(b.abs(y))))  # a frame of zeros would be -inf


def rotary(b, y):
    return rotated(b, heads(b, y, 2)), heads(b, y, 2)


def learned(b, y):
    return plain(b, b.add(y, b.slice(b.w(40, 3), axis=0, start=0, stop=T)))


KEPT = [plain, merged, normed, rotary, learned]


def grouped(b, y):
    """One head of one feature: 2 numbers a frame, where the stream has 3."""
    z = b.reshape(b.linear(y, b.w(2, 3)), shape=(b.batch, T, 1, 2))
    z = b.transpose(z, perm=(0, 2, 1, 3))
    return b.slice(z, axis=3, start=0, stop=1), b.slice(z, axis=3, start=1, stop=2)


def unlike(b, y):
    """Keys see one frame ahead, values do not: no one stream makes both."""
    return heads(b, b.rows(b.late(b.x)), 2), heads(b, y, 2)


def built(keys_and_values, late=True, batch=1):
    b = Net(batch)
    y = b.rows(b.late(b.x) if late else b.x)
    k, v = keys_and_values(b, y)
    width = k.type.sizes[-1]
    q = heads(b, y, 2) if width == WIDE else b.transpose(
        b.reshape(b.linear(y, b.w(2, 3)), shape=(b.batch, T, 2, 1)), perm=(0, 2, 1, 3))  # fmt: skip
    b.graph.output(b.attention(q, k, v, b.band(3, 2, 0), scale=0.5), "y")
    return retyped(b.module)


def kept(step):
    return {
        name.rsplit(".", 1)[1] for name in step.main.states if name.rsplit(".", 1)[1] in ("keys", "values", "inputs")
    }


def bytes_of(step):
    return state_bytes(manifest_of(step.main, "", "", "", {}).states)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("made", KEPT)
def test_inputs_are_kept_where_they_are_smaller(made, late):
    module = built(made, late)
    speed, memory = step_of(module, 1), step_of(module, 1, cache="memory")
    assert kept(speed) == {"keys", "values"} and kept(memory) == {"inputs"}
    assert bytes_of(memory) < bytes_of(speed)
    for n in (1, 3, 4, 9, 30):
        x = signals([n], n)
        (want,) = interpret(module.main, {"x": x})
        for step in (speed, memory):
            assert_alike(run_stream(step.main, {"x": x})[0], want)


@pytest.mark.parametrize("made", KEPT)
def test_every_stream_of_a_batch_keeps_its_own(made):
    module, x = built(made), signals(LENGTHS)
    step = step_of(module, 3, cache="memory")
    assert kept(step) == {"inputs"}
    for i, got in enumerate(run_stream(step.main, {"x": x}, lengths=LENGTHS)):
        assert_alike(got[0], interpret(module.main, {"x": x[i : i + 1, :, : LENGTHS[i]]})[0])


@pytest.mark.parametrize("made", [grouped, unlike])
def test_keys_and_values_are_kept_where_nothing_is_smaller(made):
    module, context = built(made), Context()
    step = clone(module)
    make("streaming{chunk=4, cache='memory'}").run(step.main, context)
    assert kept(step) == {"keys", "values"}
    assert any("keys and values" in r.message for r in context.remarks)
    x = signals([17])
    assert_alike(run_stream(step.main, {"x": x})[0], interpret(module.main, {"x": x})[0])


def test_eight_bits_are_kept_as_eight_bits():
    b = Net(1)
    y = b.dequantize(b.quantize(b.rows(b.late(b.x)), scale=0.05, zero_point=3))
    k, v = plain(b, y)
    b.graph.output(b.attention(heads(b, y, 2), k, v, b.band(3, 2, 0), scale=0.5), "y")
    step = step_of(b.module, 1, cache="memory")
    (state,) = [v for name, v in step.main.states.items() if name.endswith("inputs")]
    assert state.type.dtype == "i8"
    x = signals([21]).astype(np.float32)
    got, want = run_stream(step.main, {"x": x})[0], interpret(b.module.main, {"x": x})[0]
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()

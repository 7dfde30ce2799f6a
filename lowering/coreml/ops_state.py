"""State: what the last call left is read at the start; what it becomes is written when the last op is done."""

from __future__ import annotations

from .lower import lower


@lower("read")
def _(e, state):
    return e.value(state)


@lower("write")
def _(e, state, value):
    e.written[state.name] = e.value(value)
    return ()


@lower("history")
def _(e, x, state, *, axis, lead, trail):
    held, size = state.type.sizes[axis], x.type.sizes[axis]
    both = e.op("concat", values=[state, x], axis=axis)
    longer = [held + size if i == axis else s for i, s in enumerate(x.type.sizes)]
    source, sizes = (x, x.type.sizes) if held <= size else (both, longer)
    end = sizes[axis]
    e.written[state.name] = e.slice(source, sizes, axis, end - held, end)
    return both


@lower("retime")
def _(e, x, *, axis, to):
    return e.value(x)

"""What is changed in torch while a model is exported, and put back afterwards.

torch.export fixes the length of every LSTM, GRU and RNN and of `max_pool1d`, and stumbles over the test whether a mask
is causal. Recurrent layers therefore run as custom operators that keep time symbolic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import _trace
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ...ir.errors import CaptureError

_original = {name: getattr(torch._VF, name) for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")}


@lru_cache
def _operators() -> dict:
    """The custom operators `speechc::lstm` and so on; registered once."""

    def shapes(x: Tensor, state: Tensor, layers: int, bidirectional: bool) -> tuple[list, Tensor]:
        return [*x.shape[:2], state.shape[-1] * (1 + bidirectional)], state

    @torch.library.custom_op("speechc::lstm", mutates_args=())
    def lstm(
        x: Tensor, states: list[Tensor], params: list[Tensor], biases: bool, layers: int, dropout: float, train: bool,
        bidirectional: bool, batch_first: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        return _original["lstm"](x, states, params, biases, layers, dropout, train, bidirectional, batch_first)

    @lstm.register_fake
    def _(x, states, params, biases, layers, dropout, train, bidirectional, batch_first):
        shape, h = shapes(x, states[0], layers, bidirectional)
        return x.new_empty(shape), torch.empty_like(h), torch.empty_like(states[1])

    made = {"lstm": lstm}
    for name in ("gru", "rnn_tanh", "rnn_relu"):
        made[name] = _single_state(name, shapes)
    return made


def _single_state(name: str, shapes):
    @torch.library.custom_op(f"speechc::{name}", mutates_args=())
    def layer(
        x: Tensor, states: list[Tensor], params: list[Tensor], biases: bool, layers: int, dropout: float, train: bool,
        bidirectional: bool, batch_first: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return _original[name](x, states[0], params, biases, layers, dropout, train, bidirectional, batch_first)

    @layer.register_fake
    def _(x, states, params, biases, layers, dropout, train, bidirectional, batch_first):
        shape, h = shapes(x, states[0], layers, bidirectional)
        return x.new_empty(shape), torch.empty_like(h)

    return layer


def _recurrent(name: str):
    operator = _operators()[name]

    def call(x, states, *rest):
        if isinstance(states, Tensor) and rest and isinstance(rest[0], Tensor):
            raise CaptureError(
                "SC411",
                "packed sequences cannot be captured: their length depends on the data",
                hints=["run the layer on the padded batch"],
            )
        if name != "lstm":
            states = [states]
        return operator(x, list(states), list(rest[0]), *rest[1:])

    return call


def _max_pool1d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """As two-dimensional pooling, which keeps the length symbolic."""

    def pair(value, other):
        return (other, value if isinstance(value, int) else value[0])

    stride = kernel_size if stride in (None, ()) else stride
    how = (pair(kernel_size, 1), pair(stride, 1), pair(padding, 0), pair(dilation, 1), ceil_mode, return_indices)
    y = F.max_pool2d(x.unsqueeze(-2), *how)
    return tuple(v.squeeze(-2) for v in y) if return_indices else y.squeeze(-2)


def _is_causal(mask, is_causal=None, size=None) -> bool:
    """Only what the caller says: looking at the mask's values is control flow on data. The mask itself is kept."""
    return is_causal is True


def _watched(watch: Callable):
    log = ShapeEnv._log_guard

    def _log_guard(self, prefix, guard, forcing_spec):
        if "suppressed" not in prefix:
            watch(guard)
        return log(self, prefix, guard, forcing_spec)

    return _log_guard


@contextlib.contextmanager
def exporting(watch: Callable | None = None) -> Iterator[None]:
    """Export inside this context; `watch` sees every condition on sizes that torch takes for granted."""
    places = [(torch._VF, name, _recurrent(name)) for name in _original]
    places += [
        (F, "max_pool1d", _max_pool1d),
        (torch, "max_pool1d", _max_pool1d),
        (torch.nn.modules.transformer, "_detect_is_causal_mask", _is_causal),
    ]
    if watch is not None:
        places.append((ShapeEnv, "_log_guard", _watched(watch)))
    before = [getattr(owner, name) for owner, name, _ in places]
    fast, planned = torch.backends.mha.get_fastpath_enabled(), torch.backends.opt_einsum.enabled
    for owner, name, new in places:
        setattr(owner, name, new)
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.opt_einsum.enabled = False  # it plans with lengths as numbers
    _trace.print = lambda *_, **__: None  # the whole graph so far, when export fails
    try:
        yield
    finally:
        del _trace.print
        for (owner, name, _), old in zip(places, before):
            setattr(owner, name, old)
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.backends.opt_einsum.enabled = planned


def register() -> None:
    """Make the custom operators known, for archives that use them."""
    _operators()

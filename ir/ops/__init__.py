"""The core ops, one file a family: importing this registers them all."""

from . import attention, linear, norm, pointwise, quant, recurrent, reduce, shape, signal, state

__all__ = ["attention", "linear", "norm", "pointwise", "quant", "recurrent", "reduce", "shape", "signal", "state"]

"""All lowerings: importing this registers every family."""

from . import (
    ops_attention,
    ops_linear,
    ops_norm,
    ops_pointwise,
    ops_recurrent,
    ops_reduce,
    ops_shape,
    ops_signal,
)
from .registry import CHECKS, INTEGER, LOWERINGS

__all__ = [
    "CHECKS", "INTEGER", "LOWERINGS", "ops_attention", "ops_linear", "ops_norm", "ops_pointwise", "ops_recurrent",
    "ops_reduce", "ops_shape", "ops_signal",
]  # fmt: skip

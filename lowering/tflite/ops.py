"""All lowerings: importing this registers every family."""

from . import (  # noqa: F401
    ops_attention,
    ops_linear,
    ops_norm,
    ops_pointwise,
    ops_recurrent,
    ops_reduce,
    ops_shape,
    ops_signal,
)
from .registry import ACTIVATES, CHECKS, INTEGER, LOWERINGS

__all__ = ["ACTIVATES", "CHECKS", "INTEGER", "LOWERINGS"]

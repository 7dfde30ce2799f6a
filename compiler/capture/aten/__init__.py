"""What each ATen operator becomes, one file a family: importing this fills the table."""

from . import (  # noqa: F401  # noqa: F401
    arithmetic,
    attention,
    complex,
    convolve,
    create,
    elementwise,
    index,
    linear,
    norm,
    pooling,
    recurrent,
    reduce,
    shape,
    signal,
)

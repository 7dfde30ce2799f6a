"""PyTorch's side of the op: the operator `speechc_c::snake`, for models that call it, and what it is in a graph."""

import torch
from speechc.compiler.capture.table import aten


@torch.library.custom_op("speechc_c::snake", mutates_args=())
def snake(x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    return x + torch.sin(alpha * x) ** 2 / alpha


@snake.register_fake
def _(x, alpha):
    return torch.empty_like(x)


@aten("snake", library="speechc_c")
def _(c, x, alpha):
    return c.b.snake(x, alpha)

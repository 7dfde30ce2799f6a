"""Frames side by side: several low-rate frames as one long one."""

from __future__ import annotations

from ...ir.expr import Size, floordiv
from ...ir.graph import Builder, Value
from .spec import Behind, Place


class Stack(Behind):
    """Every `frames` frames become one, their features side by side; what is left over at the end is dropped."""

    name = "stack"
    of: int = 2

    def checked(self) -> None:
        super().checked()
        if self.of < 1:
            self.refuse("of is 1 or more frames")

    @property
    def stride(self) -> int:
        return self.of

    def frames(self, frames: Size) -> Size:
        return floordiv(frames, self.of)

    def before(self, frames: Size) -> Size:
        return frames * self.of

    def wide(self, width: int) -> int:
        return width * self.of

    def features(self, g: Builder, x: Value, place: Place) -> Value:
        n, frames, width = x.type.sizes
        whole = self.frames(frames)
        x = g.slice(x, axis=1, start=0, stop=whole * self.of)
        return g.reshape(x, shape=(n, whole, width * self.of))

"""One self-contained page about a file: sizes, error rates, latency, what is left behind each layer, passes, warnings."""

from __future__ import annotations

from .write import check_page, write_page

__all__ = ["check_page", "write_page"]

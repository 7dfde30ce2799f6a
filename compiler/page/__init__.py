"""One self-contained page about a file: sizes, error rates, latency, SNR along the graph, passes, remarks."""

from __future__ import annotations

from .write import check_page, write_page

__all__ = ["check_page", "write_page"]

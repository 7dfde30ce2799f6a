"""Measured speed on the page: latency by file with its spread, and everything else that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .plain_section import add_plain
from .view import Section


def bench_sections(data: Mapping[str, Any]) -> Iterator[Section]:
    """One section."""
    made = Section("bench", "Speed and memory")
    add_plain(made, data)
    yield made

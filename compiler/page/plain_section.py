"""Any plain data as a section: single values as facts, lists and tables of values as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .view import Cell, Section, Table, number, text


def add_plain(made: Section, data: Mapping[str, Any], skip: tuple[str, ...] = ()) -> None:
    """Put everything of `data` but the keys in `skip` into a section."""
    for key, value in data.items():
        if key in skip or value is None or value == [] or value == {}:
            continue
        if isinstance(value, Mapping):
            _mapping(made, words(key), value)
        elif isinstance(value, list):
            _list(made, words(key), value)
        else:
            made.facts.append((words(key), cell(value).text))


def words(key: str) -> str:
    """A key as words."""
    return str(key).replace("_", " ")


def cell(value: Any) -> Cell:
    """A cell for any value."""
    if isinstance(value, bool) or value is None:
        return text({True: "yes", False: "no"}.get(value))
    if isinstance(value, (int, float)):
        return number(value, "{:,}" if isinstance(value, int) else "{:.4g}")
    if isinstance(value, Mapping):
        return text(", ".join(f"{words(k)} {cell(v).text}" for k, v in value.items()))
    if isinstance(value, list):
        return text(", ".join(cell(v).text for v in value))
    return text(value)


def _mapping(made: Section, key: str, value: Mapping[str, Any]) -> None:
    if value and all(isinstance(v, Mapping) for v in value.values()):
        _table(made, key, [{"": name, **row} for name, row in value.items()])
    else:
        made.facts += [(f"{key}, {words(k)}", cell(v).text) for k, v in value.items() if v is not None]


def _list(made: Section, key: str, value: list[Any]) -> None:
    if all(isinstance(v, Mapping) for v in value):
        _table(made, key, value)
    else:
        made.facts.append((key, cell(value).text))


def _table(made: Section, caption: str, rows: list[Mapping[str, Any]]) -> None:
    columns = list(dict.fromkeys(k for row in rows for k in row))
    cells = [[cell(row.get(c)) for c in columns] for row in rows]
    made.tables.append(Table(caption, [words(c) for c in columns], cells))

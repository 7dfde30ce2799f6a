"""The table of devices: read from the file that ships, and from files of users that add to it or replace parts."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...ir.errors import UsageError

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class Rate:
    """Multiply-accumulates a second on one core: "measured" on a network, or the "peak" of the instructions."""

    macs: float
    basis: str


@dataclass(frozen=True)
class Device:
    """A device, and what of it one model may use. Bytes; `rates` by precision (one that nobody timed is missing).

    `sources` by number ("memory", "storage", "cores", a precision); `assumed`: those that were not read there.
    """

    key: str
    name: str
    kind: str
    memory: float
    storage: float
    cores: int
    rates: Mapping[str, Rate]
    memory_share: float
    storage_share: float
    weights_in_memory: bool
    sources: Mapping[str, str]
    assumed: tuple[str, ...] = ()

    @property
    def memory_for_model(self) -> float:
        """Bytes of memory that one model may use."""
        return self.memory * self.memory_share

    @property
    def storage_for_model(self) -> float:
        """Bytes of storage that one model may use."""
        return self.storage * self.storage_share


@dataclass(frozen=True)
class Store:
    """The most bytes that a store, or a way of delivery, takes."""

    name: str
    limit: float
    source: str


@dataclass(frozen=True)
class Assumptions:
    """How much of a rate a model reaches, by precision and of a peak; the least real-time margin; cores for a model."""

    utilisation: Mapping[str, float]
    of_peak: float
    margin: float
    cores: int
    why: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """Devices by name, stores, and the assumptions that judge them."""

    devices: Mapping[str, Device]
    stores: tuple[Store, ...]
    assumptions: Assumptions
    kinds: Mapping[str, Mapping[str, Any]]

    def chosen(self, names: Sequence[str] | None = None) -> list[Device]:
        """The devices of these names or kinds, all of them by default. Raises `UsageError` SC080 for an unknown one."""
        found: dict[str, Device] = {}
        for name in names or self.devices:
            some = {k: d for k, d in self.devices.items() if name in (k, d.kind)}
            if not some:
                kinds = ", ".join(dict.fromkeys(d.kind for d in self.devices.values()))
                raise UsageError(
                    "SC080",
                    f"there is no device {name}",
                    hints=[f"one of {', '.join(self.devices)}", f"or a kind: {kinds}", "--devices my.toml adds some"],
                )
            found |= some
        return list(found.values())


def load_table(more: Path | None = None) -> Table:
    """The table that ships; with `more` (a file of the same form) its entries added, or in place of equal names.

    Raises `UsageError` SC010 for a file that does not exist, SC081 for one that is malformed, with the entry.
    """
    data = tomllib.loads(files(__package__).joinpath("devices.toml").read_text())
    if more is not None:
        if not more.is_file():
            raise UsageError("SC010", f"{more} does not exist")
        try:
            own = tomllib.loads(more.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError("SC081", f"{more} is no TOML: {error}") from None
        data = merged(data, own)
    source = more or Path("devices.toml")
    assumed = data["assumptions"]
    try:
        assumptions = Assumptions(
            {p: float(assumed["utilisation"][p]) for p in PRECISIONS},
            float(assumed["of_peak"]["share"]),
            float(assumed["margin"]["least"]),
            int(assumed["cores"]["count"]),
            {name: str(part.get("why", "")) for name, part in assumed.items()},
        )
        stores = tuple(Store(s["name"], amount(s["bytes"]), s["source"]) for s in data["stores"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError("SC081", f"{source}: assumptions or stores are malformed ({error})") from None
    devices = {key: _device(key, d, data["kinds"], source) for key, d in data["devices"].items()}
    return Table(devices, stores, assumptions, data["kinds"])


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `more` adds or replaces: tables by name, lists one behind the other."""
    out = dict(base)
    for name, value in more.items():
        old = out.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            out[name] = merged(old, value)
        else:
            out[name] = [*old, *value] if isinstance(old, list) and isinstance(value, list) else value
    return out


def _device(key: str, d: Any, kinds: Mapping[str, Any], source: Path) -> Device:
    try:
        kind = kinds[d["kind"]]
        rates = {p: Rate(float(d[p]["macs"]), _basis(d[p]["basis"])) for p in PRECISIONS if p in d}
        numbers = {n: d[n] for n in ("memory", "storage", "cores", *rates)}
        made = Device(
            key, str(d["name"]), d["kind"], amount(d["memory"]["bytes"]), amount(d["storage"]["bytes"]),
            int(d["cores"]["count"]), rates, float(d.get("memory_share", kind["memory_share"])),
            float(d.get("storage_share", kind["storage_share"])),
            bool(d.get("weights_in_memory", kind.get("weights_in_memory", True))),
            {n: str(part["source"]) for n, part in numbers.items()},
            tuple(n for n, part in numbers.items() if part.get("assumed", False)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{error} is missing or unknown" if isinstance(error, KeyError) else str(error)
        raise UsageError("SC081", f"{source}: device {key}: {said}", hints=["docs/devices.md shows an entry"]) from None
    if not rates or min(made.memory, made.storage, made.cores, *(r.macs for r in rates.values())) <= 0:
        raise UsageError("SC081", f"{source}: device {key}: wants positive numbers, and a rate")
    return made


def _basis(text: str) -> str:
    if text not in ("measured", "peak"):
        raise ValueError(f"basis {text!r} is neither measured nor peak")
    return text


def amount(text: str | int | float) -> float:
    """Bytes, of a number or a text such as "512 KiB" or "4 GB"."""
    if isinstance(text, (int, float)):
        return float(text)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B|B)\s*", text)
    if not found:
        raise ValueError(f"{text!r} is no amount of memory (such as 512 KiB or 4 GB)")
    return float(found[1]) * UNITS[found[2]]

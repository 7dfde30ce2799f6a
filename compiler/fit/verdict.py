"""Whether what a model needs fits a device, resource by resource, and what would make it fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .need import Need
from .table import Assumptions, Device, Store

INT8 = "--int8 --calibrate DIR (estimated with every weight and activation in one byte)"
MOST_PRUNED = 0.9  # of the weights: what no pruning method keeps a speech model useful beyond


@dataclass(frozen=True)
class Resource:
    """One resource: bytes, or for "time" the real-time margin against the least one. `fits` None: not known."""

    name: str
    need: float | None
    have: float
    fits: bool | None
    said: str = ""


@dataclass(frozen=True)
class Verdict:
    """A model on a device. `margin`: how many times as fast as real time on `cores` (None: not known)."""

    device: Device
    resources: tuple[Resource, ...]
    margin: float | None
    cores: int
    remedies: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every resource is known to fit."""
        return all(r.fits for r in self.resources)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        resources = [{"name": r.name, "need": r.need, "have": r.have, "fits": r.fits} for r in self.resources]
        d = self.device
        return {
            "device": d.key, "name": d.name, "kind": d.kind, "fits": self.fits, "margin": self.margin,
            "cores": self.cores, "resources": resources, "remedies": list(self.remedies), "sources": dict(d.sources),
            "assumed": list(d.assumed),
        }  # fmt: skip


def judge(need: Need, device: Device, assumed: Assumptions, cores: int | None = None) -> Verdict:
    """Judge a model on a device, on `cores` (those of the assumptions by default), with remedies where it does not."""
    found = _judged(need, device, assumed, cores or assumed.cores)
    return found if found.fits else replace(found, remedies=tuple(_remedies(need, found, assumed)))


def _judged(need: Need, device: Device, assumed: Assumptions, cores: int) -> Verdict:
    cores = min(cores, device.cores)
    memory, storage = need.memory(device.weights_in_memory), need.file_bytes
    load = busy(need, device, assumed)
    margin = None if load is None else cores / load if load else float("inf")
    slow = "" if margin is not None else f"nobody has timed {_missing(need, device)} on it"
    fast = None if margin is None else margin >= assumed.margin
    resources = (
        Resource("memory", memory, device.memory_for_model, memory <= device.memory_for_model),
        Resource("storage", storage, device.storage_for_model, storage <= device.storage_for_model),
        Resource("time", margin, assumed.margin, fast, slow),
    )
    return Verdict(device, resources, margin, cores)


def busy(need: Need, device: Device, assumed: Assumptions) -> float | None:
    """Seconds of one core for a second of audio; None where the device has no rate for what the model computes."""
    total = 0.0
    for precision, macs in _macs(need).items():
        if macs:
            rate = device.rates.get(precision)
            if rate is None:
                return None
            reached = rate.macs * assumed.utilisation[precision] * (assumed.of_peak if rate.basis == "peak" else 1)
            total += macs / reached
    return total


def _macs(need: Need) -> dict[str, float]:
    return {"float32": need.macs - need.int8_macs, "int8": need.int8_macs}


def _missing(need: Need, device: Device) -> str:
    return ", ".join(p for p, macs in _macs(need).items() if macs and p not in device.rates)


# -- what would make it fit --------------------------------------------------------------------------------------------
def _remedies(need: Need, found: Verdict, assumed: Assumptions) -> Iterator[str]:
    """Single changes that suffice; else what all of them together come to."""
    device, cores = found.device, found.cores
    fits = lambda n, c=cores: _judged(n, device, assumed, c).fits
    ways: list[tuple[str, Need, int]] = []
    if (smaller := as_int8(need)) is not None:
        ways.append((INT8, smaller, cores))
    if device.cores > cores:
        ways.append((f"{device.cores} cores (--cores {device.cores})", need, device.cores))
    alone = [text for text, n, c in ways if fits(n, c)]
    yield from (f"{text}: then it fits" for text in alone)
    if (short := _shorter(need, found, fits)) is not None:
        alone.append("shorter")
        yield short
    if (share := _pruned_enough(need, fits, cores)) is not None:
        alone.append("prune")
        yield f"pruning of {share:.0%} of the weights, with the arithmetic that goes with them: then it fits"
    if alone:
        return
    together, most = smaller or need, device.cores
    names = [text for text, _, _ in ways]
    if need.lengths and not found.resources[0].fits:
        seconds, size = min(need.lengths.items())
        together = replace(together, activation_bytes=size * together.activation_bytes // need.activation_bytes)
        names.append(f"calls of {seconds:.1f} s (or --stream DURATION)")
    elif need.streams and not found.resources[0].fits:
        together = replace(together, activation_bytes=together.activation_bytes // 2)
        names.append(f"half the chunk ({500 * need.seconds:g} ms)")
    if names and fits(together, most):
        yield f"{' and '.join(names)}: then it fits"
    elif (share := _pruned_enough(together, fits, most)) is not None:
        names.append(f"pruning of {share:.0%} of the weights")
        yield f"{' and '.join(names)}: then it fits"
    else:
        left = _judged(pruned(together, MOST_PRUNED), device, assumed, most)
        short_of = ", ".join(_gap(r) for r in left.resources if not r.fits)
        tried = " and ".join([*names, f"pruning of {MOST_PRUNED:.0%}"])
        yield f"another model: with {tried} it still lacks {short_of}"


def as_int8(need: Need) -> Need | None:
    """What the model would need with weights and activations in int8; None where it has no others."""
    if need.weight_bytes <= 1.5 * need.parameters:
        return None
    saved = need.weight_bytes - need.parameters
    width = need.weight_bytes / max(need.parameters, 1)
    return replace(
        need,
        weight_bytes=need.parameters,
        file_bytes=need.file_bytes - saved,
        activation_bytes=round(need.activation_bytes / width),
        int8_macs=need.macs,
    )


def pruned(need: Need, share: float) -> Need:
    """What it would need without a share of its weights: whole channels and heads, so that arithmetic shrinks too."""
    kept = 1 - share
    return replace(
        need,
        parameters=round(need.parameters * kept),
        weight_bytes=round(need.weight_bytes * kept),
        file_bytes=need.file_bytes - round(need.weight_bytes * share),
        macs=need.macs * kept,
        int8_macs=need.int8_macs * kept,
    )


def _pruned_enough(need: Need, fits, cores: int) -> float | None:
    """The smallest share of the weights, in hundredths, without which a model fits."""
    shares = (n / 100 for n in range(1, round(100 * MOST_PRUNED) + 1))
    return next((s for s in shares if fits(pruned(need, s), cores)), None)


def _shorter(need: Need, found: Verdict, fits) -> str | None:
    """How long a recording may be, where memory is what lacks; or how short a chunk."""
    if need.lengths:
        good = [s for s, size in need.lengths.items() if fits(replace(need, activation_bytes=size))]
        if good:
            return f"recordings of at most {max(good):.1f} s a call, or --stream DURATION: then it fits"
        return None
    chunk = replace(need, activation_bytes=need.activation_bytes // 2)
    if need.streams and not found.resources[0].fits and fits(chunk):
        return f"half the chunk ({500 * need.seconds:g} ms), which needs about half the memory: then it fits"
    return None


def _gap(r: Resource) -> str:
    if r.name == "time":
        return r.said or f"speed ({r.need:.2f} of the {r.have:g} times real time)"
    return f"{r.name} ({r.need / 1e6:.2f} of {r.have / 1e6:.2f} MB)"


def in_stores(need: Need, stores: tuple[Store, ...]) -> list[tuple[Store, bool]]:
    """Whether the file alone stays under each limit of the stores."""
    return [(s, need.file_bytes <= s.limit) for s in stores]

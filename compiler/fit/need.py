"""What a compiled file needs: parameters, bytes, and multiply-accumulates for a second of audio, from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...ir.cost import Cost
from ...ir.errors import UsageError
from ...ir.expr import Size, evaluate, parse_size, symbols
from ...ir.types import INTEGERS
from ...lowering.manifest import Manifest, Port, state_bytes
from ...lowering.streaming import CLOCK_INPUT
from ..listen.source import Source
from ..place import size_of

SECONDS = 10.0  # of audio in a call, where the file takes any length
TOKENS = 4.0  # a second: a decoder's step is called once for each
CASCADE = "cascade"  # the kind of a source whose parts all take audio


@dataclass(frozen=True)
class Need:
    """What a model needs. Bytes; `macs` and `int8_macs` (those among them on integers) for a second of audio.

    `activation_bytes` is the peak of the graph that needs most (graphs run one after the other), with in-place writing;
    `unshared_bytes` without. `seconds` of audio are heard by one call. `modules`: (path, parameters, macs a second).
    """

    path: Path
    precision: str
    parameters: int
    file_bytes: int
    weight_bytes: int
    state_bytes: int
    activation_bytes: int
    unshared_bytes: int
    macs: float
    int8_macs: float
    seconds: float
    streams: bool
    modules: tuple[tuple[str, int, float], ...] = ()
    notes: tuple[str, ...] = ()
    lengths: Mapping[float, int] = field(default_factory=dict)  # activation bytes by seconds of audio in a call

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("path", "modules", "lengths")}
        modules = [{"path": p, "parameters": n, "macs_per_second": m} for p, n, m in self.modules]
        return {"path": str(self.path)} | plain | {"notes": list(self.notes), "modules": modules}

    def memory(self, weights: bool) -> int:
        """Bytes of memory while it runs; with the weights, where they are not read in place from storage."""
        return self.activation_bytes + self.state_bytes + (self.weight_bytes if weights else 0)


def needs_of(
    source: Source, seconds: float = SECONDS, frame_shift: Fraction | None = None, tokens: float = TOKENS
) -> Need:
    """What a file, a folder of several or a cascade needs. `frame_shift` is in seconds, `tokens` a second.

    Every stage of a cascade hears the audio itself; it needs what it does while all of them are awake.

    Raises `UsageError`: SC082 for a file whose manifest has no `cost`, or a cascade of folders alone, SC048 where
    features are not timed.
    """
    cascade, bound = source.kind == CASCADE, {}
    parts = [
        _graph(source, name, manifest, seconds, frame_shift, tokens, {} if cascade else bound)
        for name, manifest in source.manifests.items()
    ]
    if not parts:
        raise UsageError("SC082", f"{source.path} has no stage that is a file alone: fit each of its folders")
    if cascade:
        notes = ["counted while all stages are awake; `speechc run` says how much of a recording they are"]
        if folders := len(source.about["stages"]) - len(parts):
            notes.append(f"{folders} of its stages are folders, and not counted: fit each of them alone")
        parts[0] = replace(parts[0], notes=(*notes, *parts[0].notes))
    if len(parts) == 1:
        return replace(parts[0], path=source.path)
    total = lambda name: sum(getattr(p, name) for p in parts)
    return Need(
        source.path, "+".join(dict.fromkeys(p.precision for p in parts)), total("parameters"), total("file_bytes"),
        total("weight_bytes"), total("state_bytes"), max(p.activation_bytes for p in parts),
        max(p.unshared_bytes for p in parts), total("macs"), total("int8_macs"), parts[0].seconds,
        any(p.streams for p in parts),
        tuple((f"{n}: {path}", *rest) for n, p in zip(source.manifests, parts) for path, *rest in p.modules),
        tuple(dict.fromkeys(note for p in parts for note in p.notes)),
    )  # fmt: skip


def _graph(
    source: Source, name: str, manifest: Manifest, seconds: float, frame_shift: Fraction | None, tokens: float,
    bound: dict[str, int],
) -> Need:  # fmt: skip
    path = source.files[name]
    if manifest.cost is None:
        raise UsageError(
            "SC082", f"the manifest of {path} does not say what it costs", hints=["compile it again with this version"]
        )
    cost, notes = Cost.of(manifest.cost), []
    batch = manifest.streaming["batch"] if manifest.streaming else 1
    calls = _calls(source, name, frame_shift, tokens)
    if calls is None:
        heard, lengths = _heard(path, manifest, seconds, frame_shift, bound, notes)
        at = lambda size: _evaluated(size, bound, manifest)
    else:
        heard, lengths, batch = 1 / calls, {}, 1  # hypotheses of one stream are its batch
        own = symbols(parse_size(str(_length(port)))) if (port := _timed(manifest)) is not None else ()
        at = lambda size: _evaluated(size, {n: v for n, v in bound.items() if n not in own}, manifest)
        notes.append(f"{name} is called {calls:g} times a second of audio, for {tokens:g} tokens (--tokens-per-second)")
    if cost.uncounted:
        notes.append(f"not counted: {', '.join(cost.uncounted)} (ops of plugins without a count)")
    return Need(
        path, manifest.precision, cost.parameters, size_of([path, *_beside(path)]), cost.weight_bytes,
        state_bytes(manifest.states) // batch, at(cost.activation_bytes), at(cost.unshared_bytes),
        at(cost.macs) / heard / batch, at(cost.int8_macs) / heard / batch, heard,
        bool(manifest.streaming) or bool(manifest.states),
        tuple((p, m.parameters, at(m.macs) / heard / batch) for p, m in cost.modules.items()), tuple(notes),
        {s: _evaluated(cost.activation_bytes, b, manifest) for s, b in lengths.items()},
    )  # fmt: skip


def _calls(source: Source, name: str, frame_shift: Fraction | None, tokens: float) -> float | None:
    """Calls a second of a part of a folder that takes no audio itself; None for one that does.

    One that takes tokens is called for each; one that takes what the first part heard (the joiner of a transducer) for
    each frame of that and each token.
    """
    first, manifest = next(iter(source.manifests.values())), source.manifests[name]
    if manifest is first or source.kind == CASCADE:
        return None
    port, leading = _timed(manifest), _timed(first)
    if port is None or port.time is None or port.dtype in INTEGERS:
        return tokens
    hz = None if leading is None else ticks_per_second(first, leading, frame_shift)
    rate = next((Fraction(p.time["rate"]) for p in first.outputs if p.time is not None), None)
    return tokens if hz is None or rate is None else float(hz * rate) + tokens


def _heard(
    path: Path, manifest: Manifest, seconds: float, frame_shift: Fraction | None,
    bound: dict[str, int], notes: list[str],
) -> tuple[float, dict[float, dict[str, int]]]:  # fmt: skip
    """Seconds of audio in one call, with symbols put into `bound`; symbols at other lengths, by seconds."""
    port = _timed(manifest)
    hz = None if port is None else ticks_per_second(manifest, port, frame_shift)
    if hz is None:
        raise UsageError(
            "SC048",
            f"how many frames {path.name} takes a second is not known",
            hints=["--frame-shift 10ms"],
        )
    length = parse_size(str(_length(port)))
    if isinstance(length, int):
        if not manifest.streaming and not manifest.states:
            notes.append(f"every recording is filled up to the {float(length / hz):g} s that a call takes")
        return float(length / hz), {}
    (symbol,) = symbols(length)
    frames = fitted(length, int(seconds * hz), manifest)
    bound[symbol] = frames
    heard = lambda n: float(evaluate(length, {symbol: n}) / hz)
    if abs(heard(frames) - seconds) > 0.05 * seconds:
        notes.append(f"counted at {heard(frames):g} s: the file does not take {seconds:g} s")
    shorter = {fitted(length, int(seconds * hz * k / 16), manifest) for k in range(1, 17)}
    return heard(frames), {heard(n): {symbol: n} for n in sorted(shorter)}


def fitted(length: Size, frames: int, manifest: Manifest) -> int:
    """The largest value of the only symbol of a length for at most so many frames, among those the file takes."""
    (symbol,) = symbols(length)
    at = lambda n: evaluate(length, {symbol: n})
    least, most = manifest.limits.get(symbol, [1, None])
    if few := manifest.lengths.get(symbol):
        return max((n for n in few if at(n) <= frames), default=min(few))
    low, high = least or 1, most or max(frames, least or 1) + 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if at(middle) <= frames else (low, middle - 1)
    return low


def ticks_per_second(manifest: Manifest, port: Port, frame_shift: Fraction | None = None) -> Fraction | None:
    """Frames of an input a second: as given, as the manifest says, or the sample rate where it takes raw audio."""
    if frame_shift is not None:
        return 1 / frame_shift
    if manifest.tick_hz is not None:
        return Fraction(manifest.tick_hz)
    axis = port.time["axis"] if port.time else len(port.shape) - 1
    raw = all(n == 1 or i in (0, axis) for i, n in enumerate(port.shape))
    return Fraction(manifest.sample_rate) if manifest.sample_rate and raw else None


def _timed(manifest: Manifest) -> Port | None:
    """The input that follows time; the only one, where none says so (a model with states of its own)."""
    ports = [p for p in manifest.inputs if p.name != CLOCK_INPUT]
    timed = next((p for p in ports if p.time is not None), None)
    return timed or (ports[0] if len(ports) == 1 and manifest.sample_rate else None)


def _length(port: Port) -> int | str:
    return port.shape[port.time["axis"] if port.time else -1]


def _evaluated(size: Size, bound: Mapping[str, int], manifest: Manifest) -> int:
    """A size with its symbols; one that is not bound (a batch) has its smallest value."""
    free = {n: (manifest.limits.get(n) or [1])[0] or 1 for n in symbols(size) if n not in bound}
    return evaluate(size, {**free, **bound})


def _beside(path: Path) -> list[Path]:
    """Weights that lie in a file of their own."""
    data = path.with_name(path.name + ".data")
    return [data] if data.exists() else []

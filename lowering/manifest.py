"""The manifest beside every artefact (`model.onnx.json`): all that somebody needs who has the file and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.cost import cost
from ..ir.errors import UsageError
from ..ir.expr import Expr, Size, evaluate, parse_size, symbols
from ..ir.graph import Graph
from ..ir.types import DTYPES, Tensor
from ..ir.weights import Weight

FORMAT = 1


def manifest_path(artefact: Path) -> Path:
    """Where the manifest of an artefact lies: beside it, `model.onnx.json` for `model.onnx`."""
    return artefact.with_name(artefact.name + ".json")


@dataclass
class Port:
    """An input, output or state of a file: `name` is the model's own, `file_name` what the file calls it.

    `shape` holds integers, and text for symbolic sizes (`"T"`, `"T//4"`). `time` is set where one axis is time: its
    axis, clock, rate (frames per tick of the clock, as a fraction), delay (frames) and length. `quant` is
    [scale, zero_point] of an integer port. States have `initial` (a number, text for one that is not finite, or nested
    lists; `initial_array` reads it) and the name of the output that carries the new value; a `native` state is held by
    the runtime and has none. In a step file for several streams `batch_axis` counts them. `file_dtype` is the element
    type in the file, where that is another one than the model's.
    """

    name: str
    file_name: str
    dtype: str
    shape: list[int | str]
    time: dict[str, Any] | None = None
    quant: list[float] | None = None
    initial: float | str | list | None = None
    output: str | None = None
    batch_axis: int | None = None
    file_dtype: str | None = None
    native: bool = False


@dataclass
class Manifest:
    """What an artefact is and how to feed it; `save` and `load` keep it as JSON."""

    artefact: str
    target: str
    precision: str
    inputs: list[Port]
    outputs: list[Port]
    states: list[Port] = field(default_factory=list)
    sample_rate: int | None = None
    tokens: list[str] | None = None
    source_hash: str = ""
    limits: dict[str, list[int | None]] = field(default_factory=dict)  # symbol: [least, most]
    lengths: dict[str, list[int]] = field(default_factory=dict)  # symbol: all values it may have, where they are few
    reset: str | None = None  # what a runner must call between utterances, where the file itself keeps state
    notes: list[str] = field(default_factory=list)
    streaming: dict[str, Any] | None = None  # of a step file: chunk, clock, latency, flushing; see `streaming_facts`
    cost: dict[str, Any] | None = None  # of one call: `ir.cost.Cost.as_dict`, counted on the graph that was written
    meta: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)  # how: version of speechc, settings, digest of the calibration
    tick_hz: str | None = None  # frames of the first input with time a second, as a fraction; None: not known
    features: dict[str, Any] | None = None  # which features are meant: `passes.front_end.reference`; None: not known
    format: int = FORMAT

    def save(self, path: Path) -> None:
        """Write the manifest (through a temporary name)."""
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.replace(path)

    @staticmethod
    def load(path: Path) -> Manifest:
        """Read a manifest back."""
        data = json.loads(path.read_text())
        for group in ("inputs", "outputs", "states"):
            data[group] = [Port(**p) for p in data[group]]
        return Manifest(**data)


def port(name: str, type: Tensor, file_name: str | None = None, **more) -> Port:
    """The port of a value of `type`."""
    time = next(
        (
            {
                "axis": i,
                "clock": d.time.clock,
                "rate": str(d.time.rate),
                "delay": d.time.delay,
                "length": str(d.time.length),
            }
            for i, d in enumerate(type.shape)
            if d.time is not None
        ),
        None,
    )
    shape = [s if isinstance(s, int) else str(s) for s in type.sizes]
    quant = [type.quant.scale, type.quant.zero_point] if type.quant else None
    return Port(name, file_name or name, type.dtype, shape, time, quant, **more)


def find_manifest(path: Path, suffix: str) -> Manifest:
    """The manifest beside a file; one of several graphs (`model.encoder.onnx`) is described in `model.onnx.json`.

    Raises `UsageError` SC036 where there is none.
    """
    family = path.with_name(path.name.removesuffix(suffix).rpartition(".")[0] + suffix)
    for beside in (manifest_path(path), manifest_path(family)):
        if beside.exists():
            found = Manifest.load(beside)
            if found.artefact == path.name:
                return found
            for data in found.meta.get("graphs", {}).values():
                if data["artefact"] == path.name:
                    ports = {g: [Port(**p) for p in data[g]] for g in ("inputs", "outputs", "states")}
                    return Manifest(**{**data, **ports})
    if (beside := manifest_path(path)).exists():
        why = f"{beside} is the manifest of {Manifest.load(beside).artefact}, not of {path.name}"
        raise UsageError("SC036", why, hints=["give the file its name back, or compile it with -o under the new one"])
    raise UsageError("SC036", f"there is no manifest beside {path}", hints=[f"keep {manifest_path(path).name} with it"])


def working_limits(graph: Graph, traced: Mapping[str, list[int | None]]) -> dict[str, list[int | None]]:
    """The lengths at which the graph works: from the first at which no tensor is empty.

    A trace asks for more than that: it does not tell a size of 1 from one that is broadcast, and wants 2 everywhere.
    """
    values = [*graph.inputs, *graph.outputs, *(r for op in graph.ops for r in op.results)]
    sizes = {s for v in values for s in v.type.sizes if isinstance(s, Expr)}
    floor = {name: least or 1 for name, (least, _) in traced.items()}
    limits = {}
    for name, (least, most) in traced.items():
        own = [s for s in sizes if name in symbols(s) and symbols(s) <= floor.keys()]
        works = lambda n, own=own, name=name: all(evaluate(s, {**floor, name: n}) > 0 for s in own)
        limits[name] = [next((n for n in range(1, least or 1) if works(n)), least), most]
    return limits


def manifest_of(graph: Graph, artefact: str, target: str, precision: str, meta: dict[str, Any]) -> Manifest:
    """A manifest with the ports of `graph` under their own names; a target changes `file_name` where it must."""
    batch_axes = meta.get("state_batch", {})
    port_axes = meta.get("port_batch", {})
    states = [
        port(n, v.type, initial=stored_initial(v.payload.initial), output=n, batch_axis=batch_axes.get(n))
        for n, v in graph.states.items()
    ]
    made = Manifest(
        artefact=artefact,
        target=target,
        precision=precision,
        inputs=[port(v.name, v.type, batch_axis=port_axes.get(v.name)) for v in graph.inputs],
        outputs=[port(n, v.type, batch_axis=port_axes.get(n)) for n, v in zip(graph.output_names, graph.outputs)],
        states=states,
        sample_rate=meta.get("sample_rate"),
        tokens=meta.get("tokens"),
        source_hash=meta.get("source_hash", ""),
        limits=working_limits(graph, meta.get("limits", {})),
        notes=list(meta.get("notes", [])),
        tick_hz=None if meta.get("tick_hz") is None else str(meta["tick_hz"]),
        features=meta.get("features"),
        cost=cost(graph).as_dict(),
        made=dict(meta.get("made", {})),
        meta={"detect": meta["detect"]} if "detect" in meta else {},
    )
    if "streaming" in meta:
        made.streaming = streaming_facts(made, meta)
    return made


def stored_initial(initial: float | int | Weight) -> float | str | list:
    """An initial value as JSON holds it: a number, text where it is not finite, nested lists for stored values."""
    if isinstance(initial, Weight):
        return _plain(initial.array.tolist())
    return _plain(initial)


def _plain(value):
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def initial_array(state: Port) -> np.ndarray:
    """The value of a state before the first step."""
    dtype, shape = DTYPES[state.dtype], [int(n) for n in state.shape]
    if isinstance(state.initial, list):
        return np.array(state.initial, object).astype(dtype).reshape(shape)
    return np.full(shape, float(state.initial) if isinstance(state.initial, str) else state.initial, dtype)


def state_bytes(states: Iterable[Port]) -> int:
    """Bytes that all states hold together."""
    return sum(math.prod(int(n) for n in s.shape) * DTYPES[s.dtype].itemsize for s in states)


FLUSH = (
    "Feed every step `chunk` frames. {counting}After the last real frame feed steps of arbitrary content{empty} until "
    "ceil((length + delay) / frames a step) steps have run in all, for every output. {reading}Put the states back to "
    "their initial values before the next stream."
)
CLOCKED = {
    "counting": "`n_valid` says for each stream how many of them are real: all of them, less once at the end of the "
    "stream, then 0. ",
    "empty": " with `n_valid` 0",
    "reading": "Keep of each output, for each stream, the frames [first, last) that `<output>.range` gives. ",
}
UNCLOCKED = {
    "counting": "Fill the last chunk of a stream with anything. ",
    "empty": "",
    "reading": "Every frame of an output below its length is real; drop what lies behind. ",
}


def longest(length: Size, limits: Mapping[str, list[int | None]]) -> int | None:
    """The most frames that a stream of `length` may have, where its positions end; None: any number."""
    most = [limits[n][1] for n in symbols(length) if n in limits]
    return evaluate(length, dict.fromkeys(symbols(length), most[0])) if most and most[0] is not None else None


def streaming_facts(manifest: Manifest, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a runner of a step file must know: chunk, batch, clock, latency and delay of every output, flush contract.

    `max_frames` (of the first streaming input) is null but where position tables end. `latency_ms` of an output is its
    delay; a frame also waits for its chunk to be full (`chunk_ms`).
    """
    facts = dict(meta["streaming"])
    hz = meta.get("tick_hz")
    clocked = any(p.name == "n_valid" and p.time is None for p in manifest.inputs)
    outputs = {}
    for p in manifest.outputs:
        if p.time is not None:
            rate = Fraction(p.time["rate"])
            ms = float(1000 * p.time["delay"] / rate / Fraction(hz)) if hz else None
            outputs[p.name] = {k: p.time[k] for k in ("rate", "delay", "length")} | {"latency_ms": ms}
            outputs[p.name]["range"] = f"{p.name}.range" if clocked else None
    return facts | {
        "tick_hz": hz,
        "chunk_ms": float(1000 * facts["chunk"] / Fraction(hz)) if hz else None,
        "outputs": outputs,
        "max_frames": next(
            longest(parse_size(str(p.time["length"])), manifest.limits) for p in manifest.inputs if p.time is not None
        ),
        "state_bytes": state_bytes(manifest.states),
        "flush": {
            "n_valid": "n_valid" if clocked else None,
            "text": FLUSH.format(**(CLOCKED if clocked else UNCLOCKED)),
        },
    }

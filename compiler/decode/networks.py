"""The predictor and the joiner of a folder, as a transducer search calls them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...ir.errors import UsageError
from ...ir.types import DTYPES
from ...lowering.manifest import Port
from ...lowering.streaming import CLOCK_INPUT, RANGE_SUFFIX, batch_axis, layout_of
from ...lowering.target import Session
from .transducer import States


class FileNetworks:
    """A step file over tokens and a file of pairs; hypotheses are the streams of the step file, as many as it has.

    More hypotheses than that take several calls. Every state is one array [hypotheses, ...]; a row is a stream's own.
    """

    def __init__(self, predictor: Session, joiner: Session):
        self.predictor, self.joiner = predictor, joiner
        manifest = predictor.manifest
        layout = layout_of(manifest)
        self.batch, self.clocked = layout.batch, layout.clocked
        self.out = _timed(manifest.outputs)
        if layout.chunk != 1 or self.out.time["delay"]:
            raise UsageError("SC094", f"{manifest.artefact} does not give what is behind a token at once")
        self.tokens = _timed([p for p in manifest.inputs if p.name != CLOCK_INPUT])
        found = {
            s.name: s.batch_axis if s.batch_axis is not None else batch_axis(s, self.batch) for s in manifest.states
        }
        if self.batch > 1 and None in found.values():
            raise UsageError("SC094", f"a state of {manifest.artefact} has no axis of hypotheses")
        self._axes: dict[str, int | None] = found if self.batch > 1 else dict.fromkeys(found)
        self.axes: Mapping[str, int] = dict.fromkeys(found, 0)
        predictor.reset()
        self._first = {name: predictor.state(name) for name in found}
        self.pairs = [p.name for p in joiner.manifest.inputs]
        self.scores = joiner.manifest.outputs[0].name

    def begin(self) -> States:
        """The states before the first token, for one hypothesis."""
        return {name: self._row(name, value, 0)[None] for name, value in self._first.items()}

    def predict(self, tokens: np.ndarray, states: States) -> tuple[np.ndarray, States]:
        """One step: tokens [n] and states of n hypotheses; outputs [n, ...], and new states."""
        outs: list[np.ndarray] = []
        rows: dict[str, list[np.ndarray]] = {name: [] for name in states}
        for start in range(0, len(tokens), self.batch):
            chosen = list(range(start, min(start + self.batch, len(tokens))))
            padded = chosen + chosen[:1] * (self.batch - len(chosen))
            for name, value in states.items():
                self.predictor.set_state(name, self._held(name, [value[i] for i in padded]))
            out = self.predictor.run_named(self._feeds(tokens[padded]))[self.out.name]
            out = np.moveaxis(out, self.out.time["axis"], 0)[0]
            outs += [out[i] for i in range(len(chosen))]
            for name in states:
                new = self.predictor.state(name)
                rows[name] += [self._row(name, new, i) for i in range(len(chosen))]
        return np.stack(outs), {name: np.stack(r) for name, r in rows.items()}

    def join(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Scores of the classes [n, classes] for one frame [...] of the encoder and predictor outputs [n, ...]."""
        heard = np.broadcast_to(encoded, (len(predicted), *encoded.shape))
        feeds = {name: np.ascontiguousarray(a[None]) for name, a in zip(self.pairs, (heard, predicted))}
        return self.joiner.run_named(feeds)[self.scores][0]

    def _feeds(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        feeds = {self.tokens.name: tokens.reshape(self.batch, 1).astype(DTYPES[self.tokens.dtype])}
        return feeds | ({CLOCK_INPUT: np.ones(self.batch, np.int32)} if self.clocked else {})

    def _row(self, name: str, value: np.ndarray, i: int) -> np.ndarray:
        axis = self._axes[name]
        return value if axis is None else value.take(i, axis)

    def _held(self, name: str, rows: list[np.ndarray]) -> np.ndarray:
        axis = self._axes[name]
        return rows[0] if axis is None else np.stack(rows, axis)


def _timed(ports: list[Port]) -> Port:
    """The one of some ports that has a time and is no range."""
    found = [p for p in ports if p.time is not None and not p.name.endswith(RANGE_SUFFIX)]
    if len(found) != 1:
        raise UsageError("SC094", f"of {', '.join(p.name for p in ports)}, one should follow the tokens")
    return found[0]

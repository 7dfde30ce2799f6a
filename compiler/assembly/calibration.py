"""What the parts behind an encoder are calibrated with: what they meet where the recordings are decoded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import read_samples
from ..samples import Feeds
from .assemble import Assembly
from .transducer import JOINER, KIND, PREDICTOR

MOST = 32  # recordings
LONGEST = 200  # tokens of a recording


def behind(assembly: Assembly, encoder: Path, given: Any) -> dict[str, list[Feeds]]:
    """Samples by part for a transducer whose `encoder` file is compiled; none for other kinds.

    `given` is the calibration of the command: a folder of recordings, or samples for the encoder.
    """
    if given is None or assembly.parts.kind != KIND:
        return {}
    from ..decode.transducer import Greedy, Rules

    samples: dict[str, list[Feeds]] = {PREDICTOR: [], JOINER: []}
    rules = Rules(**assembly.parts.decoding)
    for frames in _encoded(encoder, given, assembly.parts.sample_rate):
        met = Met(assembly)
        search = Greedy(met, rules)
        for frame in frames:
            search.push(frame[None])
            if len(search.said) >= LONGEST:
                break
        tokens = [search.calls.first, *search.said]
        samples[PREDICTOR].append({"tokens": np.array([tokens if len(tokens) > 1 else 2 * tokens], np.int64)})
        heard, said = (np.stack(rows)[None] for rows in zip(*met.pairs))
        samples[JOINER].append({"heard": heard, "said": said})
    return samples


def _encoded(encoder: Path, given: Any, rate: int | None) -> Iterator[np.ndarray]:
    """What the encoder gives for each recording: [frames, size]."""
    from ..listen.single import SingleFile
    from ..listen.source import read_source

    listener = SingleFile(read_source(encoder))
    output = next(p for p in listener.manifest.outputs if p.time is not None)
    name = next(p.name for p in listener.manifest.inputs if p.time is not None)

    def encoded(_: str, sample: Any) -> np.ndarray:
        if isinstance(sample, dict):
            heard = listener.hear_arrays(sample)
        elif np.ndim(sample) == 2 and len(listener.port.shape) == 2:
            heard = listener.hear(np.asarray(sample, np.float32)[0])
        else:
            heard = listener.hear_arrays({name: np.asarray(sample)})
        array = heard.outputs[output.name].astype(np.float32)
        if output.quant is not None:
            array = (array - output.quant[1]) * np.float32(output.quant[0])
        return np.moveaxis(array, output.time["axis"], 1)[0]

    folder = isinstance(given, (str, Path))
    several = read_samples(Path(given), rate, encoded) if folder else (encoded("", sample) for sample in given)
    yield from (frames for frames in islice(several, MOST) if len(frames) > 1)


class Met:
    """The captured predictor and joiner as a search calls them, which keeps every pair that the joiner meets."""

    axes = {"said": 0}

    def __init__(self, assembly: Assembly):
        self.predictor, self.joiner = (assembly.subjects[name].reference for name in (PREDICTOR, JOINER))
        self.pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def begin(self) -> dict[str, np.ndarray]:
        """No token yet."""
        return {"said": np.zeros((1, 0), np.int64)}

    def predict(self, tokens: np.ndarray, states: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The predictor on all tokens again; its last frame."""
        said = np.concatenate([states["said"], tokens[:, None]], 1)
        # A graph may want two tokens at least; the last one sees none behind it.
        row = said if said.shape[1] > 1 else np.repeat(said, 2, 1)
        return self.predictor({"tokens": row})[0][:, said.shape[1] - 1], {"said": said}

    def join(self, encoded: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Scores of one pair."""
        self.pairs.append((encoded, predicted[0]))
        two = lambda a: np.stack([a, a])[None]
        return self.joiner({"heard": two(encoded), "said": two(predicted[0])})[0][0, :1]

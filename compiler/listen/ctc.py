"""Files whose output scores tokens, or gives their numbers: the text of CTC decoding."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ...ir.errors import UsageError
from ...lowering.manifest import Manifest, Port
from ..audio_port import audio_port
from ..decode import options
from ..decode.ctc_beam import CTCBeam
from ..decode.options import Decoding
from ..decode.result import told
from ..decode.scores import LogProbabilities
from ..decode.vocabulary import Vocabulary
from ..words import Greedy, decoded, speaking
from .listener import listens
from .single import Arrays, SingleFile, Teller, refuse_nan
from .source import Source


@listens("ctc")
class CTC(SingleFile):
    """CTC decoding of the output that has the tokens: greedy (Graves et al. 2006), or prefix beam search.

    The options are those of `Decoding`; with any of them there is a search, over the output that scores the tokens.
    """

    options = options.NAMES

    @classmethod
    def fits(cls, source: Source, decoding: Mapping[str, Any]) -> bool:
        """Whether the file has tokens and an output for them."""
        return source.manifest is not None and speaking(source.manifest.outputs, source.manifest.tokens) is not None

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        name = speaking(self.manifest.outputs, self.manifest.tokens)
        if name is None:
            raise UsageError("SC054", f"{source.path} has no output for tokens")
        search = Decoding.of(decoding)
        if search.width is not None:
            scores = [p for p in self.manifest.outputs if p.name != name or not decoded(p)]
            name = speaking([p for p in scores if len(p.shape) == 3], self.manifest.tokens)
            if name is None:
                raise UsageError(
                    "SC054", f"{source.path} gives the tokens, not their scores: there is nothing to search in"
                )
            blank = Greedy(self.manifest.tokens).blank
            self.vocabulary = Vocabulary(self.manifest.tokens, blank)
            self.scorers = search.scorers(self.vocabulary)
        self.search = search
        self.output = next(p for p in self.manifest.outputs if p.name == name)

    def teller(self) -> Teller:
        """Decodes the frames of one recording."""
        if self.search.width is None:
            return Spoken(self.output.name, Greedy(self.manifest.tokens, -1 if decoded(self.output) else None))
        return Searched(self)


class Spoken(Teller):
    """The text of the frames so far; `decoder` has `add(frames)` and `text`."""

    def __init__(self, output: str, decoder: Greedy):
        self.output, self.decoder, self.text = output, decoder, decoder.text

    def add(self, outputs: Arrays) -> bool:
        """Take in frames; whether the text is another."""
        before = self.text
        if self.output in outputs:
            if outputs[self.output].ndim == 2:  # numbers, which the file has chosen by scores that it may give too
                for name in outputs:
                    refuse_nan(outputs, name)
            self.decoder.add(outputs[self.output])
            self.text = self.decoder.text
        return self.text != before


class Searched(Teller):
    """The likeliest text of the frames so far; it may change in the middle while frames come."""

    def __init__(self, file: CTC):
        self.file, self.text = file, ""
        self.beam = CTCBeam(file.search.width, file.vocabulary.blank, file.scorers, file.search.floor)
        self.log_probabilities = LogProbabilities(file.output.quant)
        self.frame_ms = frame_ms(file.manifest, file.output)
        self._tell(False)

    def add(self, outputs: Arrays) -> bool:
        """Take in frames; whether the text is another."""
        before = self.text
        if self.file.output.name in outputs:
            self.beam.push(self.log_probabilities(outputs[self.file.output.name][0]))
            self._tell(False)
        return self.text != before

    def end(self) -> None:
        """Rank the hypotheses as whole utterances."""
        self._tell(True)

    def _tell(self, final: bool) -> None:
        found = self.beam.best(self.file.search.best, final)
        names = self.file.manifest.tokens
        self.alternatives = told(found, names, self.file.vocabulary.text, self.frame_ms)
        self.text = self.alternatives[0].text


def frame_ms(manifest: Manifest, output: Port) -> Fraction | None:
    """Milliseconds of audio between frames of an output; None where the manifest does not say."""
    hz = (manifest.streaming or {}).get("tick_hz")
    if hz is None and manifest.streaming is None:
        try:
            audio_port(manifest)
        except UsageError:  # its frames are counted in features
            return None
        hz = manifest.sample_rate
    return None if hz is None or output.time is None else 1000 / Fraction(output.time["rate"]) / Fraction(hz)

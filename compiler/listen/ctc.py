"""Files whose output scores tokens, or gives their numbers: the text of CTC decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ir.errors import UsageError
from ..words import Greedy, decoded, speaking
from .listener import listens
from .single import Arrays, SingleFile, Teller
from .source import Source


@listens("ctc")
class CTC(SingleFile):
    """Greedy CTC decoding (Graves et al. 2006) of the output that has the tokens."""

    @classmethod
    def fits(cls, source: Source, decoding: Mapping[str, Any]) -> bool:
        """Whether the file has tokens and an output for them."""
        return source.manifest is not None and speaking(source.manifest.outputs, source.manifest.tokens) is not None

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        super().__init__(source, threads, **decoding)
        name = speaking(self.manifest.outputs, self.manifest.tokens)
        if name is None:
            raise UsageError("SC054", f"{source.path} has no output for tokens")
        self.output = next(p for p in self.manifest.outputs if p.name == name)

    def teller(self) -> Teller:
        """Decodes the frames of one recording."""
        return Spoken(self.output.name, Greedy(self.manifest.tokens, -1 if decoded(self.output) else None))


class Spoken(Teller):
    """The text of the frames so far; `decoder` has `add(frames)` and `text`."""

    def __init__(self, output: str, decoder: Greedy):
        self.output, self.decoder, self.text = output, decoder, decoder.text

    def add(self, outputs: Arrays) -> bool:
        """Take in frames; whether the text is another."""
        before = self.text
        if self.output in outputs:
            self.decoder.add(outputs[self.output])
            self.text = self.decoder.text
        return self.text != before

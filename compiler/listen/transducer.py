"""A transducer's folder as a listener: the encoder in chunks or whole, and a search over what it gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ir.errors import UsageError
from .. import driver
from ..assembly.text import BYTES, text_of
from ..decode import options
from ..decode.networks import FileNetworks
from ..decode.number import number
from ..decode.options import Decoding
from ..decode.result import told
from ..decode.transducer import Beam, Greedy, Rules
from ..decode.vocabulary import Vocabulary
from .ctc import frame_ms
from .listener import Listener, listens
from .single import Arrays, SingleFile, Teller, refuse_nan
from .source import Source

PARTS = ("encoder", "predictor", "joiner")


@listens("transducer")
class Transducer(SingleFile):
    """Greedy, or with any option of `Decoding` a beam (see `decode.transducer`); `most`: tokens a frame at most.

    A search calls the predictor for as many hypotheses at once as its file has streams (`--batch` at compile time).
    """

    options = (*(n for n in options.NAMES if n != "floor"), "most")  # a floor is of CTC's frames

    def __init__(self, source: Source, threads: int | None = None, **decoding: Any):
        Listener.__init__(self, source, threads, **decoding)
        about = source.about
        if missing := [name for name in PARTS if name not in source.files]:
            raise UsageError("SC054", f"{source.path} has no {', '.join(missing)}")
        self.sessions = {name: driver.open_artefact(source.files[name], threads) for name in PARTS}
        self.session, self.manifest = self.sessions["encoder"], source.manifests["encoder"]
        self.output = next(p for p in self.manifest.outputs if p.time is not None)
        self.networks = FileNetworks(self.sessions["predictor"], self.sessions["joiner"])
        rules: dict[str, Any] = dict(about.get("decoding", {}))
        if decoding.get("most") is not None:
            rules["most"] = number("most", decoding["most"], int)
        try:
            self.rules = Rules(**rules)
        except TypeError:
            raise UsageError("SC054", f"{source.path}: its decoding is not that of a transducer") from None
        self.tokens: list[str] = about["tokens"]
        self.search = Decoding.of(decoding)
        vocabulary = Vocabulary(self.tokens, self.rules.blank)
        spelling = about.get("spelling", "plain")
        self.text = vocabulary.text
        if spelling == BYTES:
            self.text = lambda tokens: text_of(tokens, self.tokens, spelling)
            if self.search.lm is not None or self.search.bias or self.search.word_bonus:
                raise UsageError("SC094", "words of byte-level tokens cannot be told while they are searched for")
        self.scorers = self.search.scorers(vocabulary)

    @property
    def sample_rate(self) -> int | None:
        """Of the audio that it takes, Hz."""
        return self.source.about.get("sample_rate") or self.manifest.sample_rate

    def teller(self) -> Teller:
        """Searches in the frames of one recording."""
        return Searching(self)


class Searching(Teller):
    """The text of the encoder's frames so far."""

    def __init__(self, file: Transducer):
        width = file.search.width
        self.file, self.text = file, ""
        if width is None:
            self.made: Greedy | Beam = Greedy(file.networks, file.rules)
        else:
            self.made = Beam(file.networks, width, file.rules, file.scorers)
        self.frame_ms = frame_ms(file.manifest, file.output)
        self._tell(False)

    def add(self, outputs: Arrays) -> bool:
        """Take in frames of the encoder; whether the text is another."""
        before = self.text
        if self.file.output.name in outputs:
            output = self.file.output
            self.made.push(np.moveaxis(refuse_nan(outputs, output.name), output.time["axis"], 1)[0])
            self._tell(False)
        return self.text != before

    def end(self) -> None:
        """Rank the hypotheses as whole utterances."""
        self._tell(True)

    def _tell(self, final: bool) -> None:
        found = self.made.best(self.file.search.best, final)
        self.alternatives = told(found, self.file.tokens, self.file.text, self.frame_ms)
        self.text = self.alternatives[0].text

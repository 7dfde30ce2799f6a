"""Runs files on recordings with texts, counts errors, and compares every file with the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...ir.errors import SpeechcError, UsageError
from ..listen import Listener
from ..recordings import LeftOut, Note, counted, left_out, read_recording
from ..run_file import not_numbers
from .bootstrap import LEVEL, RESAMPLES, Paired, interval, paired, resampled_rates
from .counts import Counts, count, count_words, total
from .data import Item
from .gates import Verdict
from .normalise import Normalise, normaliser

Progress = Callable[[float, float], None]


@dataclass
class Utterance:
    """A recording that all files heard: its text and theirs, normalised, and the errors of each."""

    name: str
    seconds: float
    text: str
    heard: list[str]
    words: list[Counts]
    characters: list[Counts]

    @property
    def lost(self) -> int:
        """Word errors that a later file makes more than the first, at most; negative where all make fewer."""
        return max((c.errors for c in self.words[1:]), default=self.words[0].errors) - self.words[0].errors

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "audio": self.name,
            "seconds": round(self.seconds, 3),
            "text": self.text,
            "heard": self.heard,
            "word_errors": [c.errors for c in self.words],
            "words": self.words[0].length,
        }


@dataclass
class Result:
    """The errors of one file, with intervals (None where one utterance alone was heard), and against the first file.

    `not_worse`: the share of utterances with no more word errors than the first file has; `extra_words`: what it heard
    in recordings whose text has nothing in it.
    """

    name: str
    path: Path
    words: Counts
    characters: Counts
    words_interval: tuple[float, float] | None = None
    characters_interval: tuple[float, float] | None = None
    against_first: Paired | None = None
    not_worse: float | None = None
    extra_words: int = 0

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        made: dict[str, object] = {"file": self.name, "path": str(self.path)}
        for what, counts, found in (
            ("wer", self.words, self.words_interval),
            ("cer", self.characters, self.characters_interval),
        ):
            made[what] = counts.as_dict() | {"interval": None if found is None else list(found)}
        if self.not_worse is not None:
            made["against_first"] = self.against_first and self.against_first.as_dict()
            made["not_worse"] = self.not_worse
        return made | {"extra_words": self.extra_words}


@dataclass
class Evaluation:
    """Everything that was found; `as_dict` is what `--json` prints, and what reports are made of."""

    data: str
    normalise: str
    results: list[Result]
    utterances: list[Utterance]
    without_text: list[str] = field(default_factory=list)  # recordings whose text has nothing in it
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[tuple[str, Note]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    level: float = LEVEL
    resamples: int = RESAMPLES

    @property
    def seconds(self) -> float:
        """Of audio that was heard and counted."""
        return sum(u.seconds for u in self.utterances)

    def worst(self, most: int = 5) -> list[Utterance]:
        """Utterances that lost most against the first file, and behind them others with the most word errors."""
        errors = lambda u: max(c.errors for c in u.words)
        wrong = [u for u in self.utterances if errors(u)]
        return sorted(wrong, key=lambda u: (max(u.lost, 0), errors(u)), reverse=True)[:most]

    def as_dict(self, most: int = 5) -> dict[str, object]:
        """Plain data for JSON, with the `most` worst utterances."""
        return {
            "data": self.data,
            "normalise_text": self.normalise,
            "recordings": len(self.utterances) + len(self.without_text) + len(self.left_out),
            "counted": len(self.utterances),
            "seconds": round(self.seconds, 3),
            "files": [r.as_dict() for r in self.results],
            "confidence": {"level": self.level, "resamples": self.resamples},
            "without_text": self.without_text,
            "left_out": [e.as_dict() for e in self.left_out],
            "notes": counted(note for _, note in self.notes),
            "worst": [u.as_dict() for u in self.worst(most)],
            "gates": [v.as_dict() for v in self.verdicts],
        }


def evaluate(
    listeners: Sequence[Listener],
    items: Sequence[Item],
    missing: Sequence[LeftOut] = (),
    normalise: str = "plain",
    data: str = "",
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = lambda done, of: None,
) -> Evaluation:
    """The errors of every listener on the recordings that all of them can hear; `missing` are left out already.

    A recording that cannot be used, is cut off, is too long for one of the files, or from which one of them makes NaN
    is left out for all, so that the same words are counted for each. One whose text has nothing in it is heard, and
    what is heard there is counted apart. `resamples` and `seed` are those of the bootstrap.

    Raises `UsageError`: SC057 where nothing is left to count, SC087 for a file that gives no text, SC034 for one that
    does not take recordings.
    """
    clean = normaliser(normalise)
    names = named([listener.source.path for listener in listeners])
    found = Evaluation(data, normalise, [], [], left_out=list(missing), resamples=resamples)
    extra = [0] * len(listeners)
    for listener in listeners:
        listener.check_audio()
    for done, item in enumerate(items):
        progress(done, len(items))
        try:
            utterance, notes = _heard(listeners, names, item, clean)
        except _Unusable as error:
            found.left_out.append(error.why)
            continue
        except SpeechcError as error:
            if error.code == "SC087":
                raise
            found.left_out.append(left_out(item.name, error))
            continue
        found.notes += [(item.name, note) for note in notes]
        if utterance.words[0].length:
            found.utterances.append(utterance)
        else:
            found.without_text.append(item.name)
            extra = [n + c.insertions for n, c in zip(extra, utterance.words)]
    progress(len(items), len(items))
    if not found.utterances:
        raise nothing_left(found)
    found.results = _results(listeners, names, found.utterances, extra, resamples, seed)
    return found


class _Unusable(Exception):
    def __init__(self, why: LeftOut):
        super().__init__(why.why)
        self.why = why


def _heard(
    listeners: Sequence[Listener], names: Sequence[str], item: Item, clean: Normalise
) -> tuple[Utterance, list[Note]]:
    """One recording through every file. Raises `_Unusable`, or the `SpeechcError` that says why not."""
    recordings = {rate: read_recording(item.path, rate, item.name) for rate in {x.sample_rate for x in listeners}}
    first = recordings[listeners[0].sample_rate]
    if cut := next((n for n in first.notes if n.kind == "cut off"), None):
        raise _Unusable(LeftOut(item.name, cut.kind, cut.text, "SC056"))
    notes, texts = list(first.notes), []
    for listener, name in zip(listeners, names):
        try:
            heard = listener.hear(recordings[listener.sample_rate].samples)
        except UsageError as error:
            if error.code != "SC091":
                raise
            raise _Unusable(LeftOut(item.name, "NaN", f"{name}: {error.message}", error.code)) from None
        if heard.text is None:
            raise UsageError("SC087", f"{name} gives no text to count words of", hints=["a model with tokens"])
        if bad := not_numbers(heard):
            raise _Unusable(LeftOut(item.name, "NaN", f"{name} gives NaN in {bad}", "SC501"))
        notes += [Note(n.kind, f"{name}: {n.text}") for n in heard.notes]
        texts.append(clean(heard.text))
    said = clean(item.text)
    words = [count_words(said, text) for text in texts]
    characters = [count(said, text) for text in texts]
    return Utterance(item.name, first.seconds, said, texts, words, characters), notes


def _results(
    listeners: Sequence[Listener],
    names: Sequence[str],
    utterances: Sequence[Utterance],
    extra: Sequence[int],
    resamples: int,
    seed: int,
) -> list[Result]:
    words = _rates([u.words for u in utterances], resamples, seed)
    characters = _rates([u.characters for u in utterances], resamples, seed)
    several, made = len(utterances) > 1, []
    for i, (listener, name) in enumerate(zip(listeners, names)):
        result = Result(
            name,
            listener.source.path,
            total(u.words[i] for u in utterances),
            total(u.characters[i] for u in utterances),
            interval(words[i]) if several else None,
            interval(characters[i]) if several else None,
            extra_words=extra[i],
        )
        if i:
            result.not_worse = sum(u.words[i].errors <= u.words[0].errors for u in utterances) / len(utterances)
            if several:
                result.against_first = paired(result.words.rate - made[0].words.rate, words[0], words[i])
        made.append(result)
    return made


def _rates(counts: Sequence[Sequence[Counts]], resamples: int, seed: int):
    errors = [[c.errors for c in each] for each in zip(*counts)]
    return resampled_rates(errors, [each[0].length for each in counts], resamples, seed)


def named(paths: Sequence[Path]) -> list[str]:
    """Short names of files that tell them apart: the last part of each path, or as many as it takes."""
    for parts in range(1, max(len(p.parts) for p in paths) + 1):
        short = ["/".join(p.parts[-parts:]) for p in paths]
        if len(set(short)) == len(set(paths)):
            return short
    return [str(p) for p in paths]


def nothing_left(found: Evaluation) -> UsageError:
    """The error of a set of recordings of which none can be counted."""
    why = counted(Note(e.kind, "") for e in found.left_out)
    if found.without_text:
        why["text with nothing in it"] = len(found.without_text)
    rows = [f"{e.name}: {e.why} [{e.code}]" for e in found.left_out[:5]]
    told = ", ".join(f"{n} {kind}" for kind, n in why.items())
    return UsageError("SC057", f"none of the recordings can be counted: {told}", rows)

"""Recordings as models want them, with what is wrong with them: mono float32 at one rate, and notes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..ir.errors import MissingError, SpeechcError, UsageError
from ..lowering.target import needs
from .riff import read_header

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SILENT = 1e-3  # -60 dBFS: the loudest sample of a recording with nothing in it, its mean taken away
CLIPPED = 10  # samples at full scale, in runs of three or more alike
WARNINGS = ("cut off", "silent", "clipped", "NaN", "raw", "padded", "unfinished")  # may change what results mean
FULL = {"PCM_U8": 0.98, "PCM_S8": 0.98, "ULAW": 0.97, "ALAW": 0.97}  # the largest sample of coarse formats, about


@dataclass(frozen=True)
class Note:
    """Something about a recording that its reader should know: a kind to count by, and the facts."""

    kind: str  # "silent", "clipped", "cut off", "several channels", "resampled", "padded", "raw", "NaN"
    text: str


@dataclass
class Recording:
    """Samples, float32[n] in [-1, 1] at `rate` Hz; `notes` on what was done to them and what is wrong with them."""

    name: str
    samples: np.ndarray
    rate: int
    notes: list[Note] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate

    def has(self, kind: str) -> bool:
        """Whether there is a note of that kind."""
        return any(n.kind == kind for n in self.notes)


def read_recording(source: Path | bytes, rate: int | None, name: str | None = None) -> Recording:
    """A recording from a file or its bytes: channels averaged, at `rate` Hz (soxr; its own rate if None).

    Raises `UsageError`: SC010 where there is no such file, SC030 for what is not audio, SC031 without samples, SC032
    with NaN. One that is cut off is read as far as it goes, and has a note.
    """
    soundfile = needs("soundfile", "audio")
    name = name or str(source)
    data = _bytes(source, name)
    if not data:
        raise UsageError("SC031", f"{name} is empty: it has no bytes")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            frames, own, subtype = file.frames, file.samplerate, file.subtype
            samples = file.read(dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError) as error:
        raise UsageError("SC030", f"{name} is not audio that can be read ({str(error).rpartition(': ')[2]})") from None
    cut = cut_off(data, len(samples), frames, own)
    if not len(samples):
        raise UsageError("SC031", f"{name} holds no samples" + (f" ({cut})" if cut else ""))
    if not np.isfinite(samples).all():
        raise UsageError("SC032", f"{name} holds NaN or infinite samples")
    notes = [Note("cut off", cut)] if cut else []
    notes += found_in(samples, FULL.get(subtype, 0.999))
    mono, more = as_wanted(samples, own, rate)
    if not len(mono):
        raise UsageError("SC031", f"{name} is shorter than a sample at {rate} Hz")
    return Recording(name, mono, rate or own, notes + more)


def as_wanted(samples: np.ndarray, own: int, rate: int | None) -> tuple[np.ndarray, list[Note]]:
    """Samples [n, channels] at `own` Hz as mono float32[m] at `rate` Hz, and notes of what that took."""
    notes = []
    channels = samples.shape[1]
    mono = samples.mean(1)
    if channels > 1:
        notes.append(Note("several channels", f"{channels} channels averaged"))
        loud = float(np.abs(samples - samples.mean(0)).max())
        if loud >= SILENT and float(np.abs(mono - mono.mean()).max()) < SILENT:
            notes.append(Note("silent", "its channels cancel each other"))
    if rate is not None and own != rate:
        notes.append(Note("resampled", f"{own} Hz to {rate} Hz"))
        mono = needs("soxr", "audio").resample(mono, own, rate)
    return np.ascontiguousarray(mono, np.float32), notes


def found_in(samples: np.ndarray, full: float = 0.999) -> list[Note]:
    """Notes on samples [n, channels]: silent ones, and clipped ones (`full`: what counts as full scale)."""
    notes = []
    peak = float(np.abs(samples - samples.mean(0)).max())
    if peak < SILENT:
        level = "all samples are alike" if peak == 0 else f"its peak is {20 * np.log10(peak):.0f} dBFS"
        notes.append(Note("silent", level))
    if (count := clipped(samples, full)) >= CLIPPED:
        notes.append(Note("clipped", f"{count} of {samples.size} samples at full scale"))
    return notes


def clipped(samples: np.ndarray, full: float = 0.999) -> int:
    """How many samples [n, channels] lie at or over full scale in runs of three or more that are alike, or over it."""
    loud = np.abs(samples) >= full
    level = np.minimum(np.abs(samples), 1.0) * np.sign(samples)
    same = loud[1:] & loud[:-1] & (level[1:] == level[:-1])
    middle = same[1:] & same[:-1]  # the middle of three alike
    hit = np.zeros_like(loud)
    for shift in range(3):
        hit[shift : len(hit) - 2 + shift] |= middle
    return int(hit.sum())


def cut_off(data: bytes, read: int, frames: int, rate: int) -> str | None:
    """What is missing of a file that promises more samples than it has; None where it is whole, or does not say."""
    header = read_header(stream := io.BytesIO(data))
    if header is not None and header.promised is not None:
        there = len(data) - stream.tell()
        if header.promised - there >= header.frame_bytes:
            says, has = (n // header.frame_bytes / header.rate for n in (header.promised, there))
            return f"its header promises {says:.2f} s, there are {has:.2f} s"
        if header.promised == 0 and there:
            return f"its header promises nothing, {there} bytes follow: it was not closed"
        return None
    if header is None and frames > read:
        return f"its header promises {frames / rate:.2f} s, {read / rate:.2f} s can be read"
    return None


def recordings_in(folder: Path) -> list[Path]:
    """All recordings in a folder and those below it, by name. Raises `UsageError` SC033 where there are none."""
    if not folder.is_dir():
        raise UsageError("SC033", f"{folder} does not exist")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.is_dir())
    if not found:
        raise UsageError("SC033", f"{folder} holds no recordings ({', '.join(SUFFIXES)})")
    return found


@dataclass(frozen=True)
class LeftOut:
    """A recording that was not used: why, as a kind to count by and in full, and the code of the error."""

    name: str
    kind: str
    why: str
    code: str

    def as_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return {"audio": self.name, "reason": self.kind, "message": self.why, "code": self.code}


KINDS = {
    "SC010": "missing",
    "SC018": "cannot be opened",
    "SC030": "not audio",
    "SC031": "empty",
    "SC032": "NaN in it",
    "SC056": "cut off",
    "SC091": "NaN",
    "SC112": "too long",
    "SC211": "too long",
}


OF_THE_FILE = ("SC034", "SC050", "SC110")  # errors that every recording would have


def left_out(name: str, error: SpeechcError) -> LeftOut:
    """What an error says of a recording. Raises it where it is not about the recording."""
    if isinstance(error, MissingError) or error.code in OF_THE_FILE:
        raise error
    return LeftOut(name, KINDS.get(error.code, error.code), error.message, error.code)


@dataclass
class Summary:
    """What became of recordings: how many there are, what was left out and why, and the notes on others."""

    recordings: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[tuple[str, Note]] = field(default_factory=list)

    @property
    def used(self) -> int:
        """How many were not left out."""
        return self.recordings - len(self.left_out)

    def none_left(self) -> UsageError:
        """The error of recordings of which none can be used: why, by kind, and of the first ones in full."""
        why = counted(Note(e.kind, "") for e in self.left_out)
        rows = [f"{e.name}: {e.why.removeprefix(e.name).strip()} [{e.code}]" for e in self.left_out[:5]]
        told = ", ".join(f"{n} {kind}" for kind, n in why.items())
        return UsageError("SC057", f"none of {self.recordings} recordings can be used: {told}", rows)

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "recordings": self.recordings,
            "used": self.used,
            "left_out": [e.as_dict() for e in self.left_out],
            "notes": counted(note for _, note in self.notes),
        }


def counted(notes: Iterable[Note]) -> dict[str, int]:
    """How many notes there are of each kind."""
    counts: dict[str, int] = {}
    for note in notes:
        counts[note.kind] = counts.get(note.kind, 0) + 1
    return counts


def _bytes(source: Path | bytes, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except FileNotFoundError:
        raise UsageError("SC010", f"{name} does not exist") from None
    except OSError as error:
        raise UsageError("SC018", f"{name} cannot be opened ({error.strerror or error})") from None

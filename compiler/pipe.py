"""Audio from standard input: a recording in a file's format, or bare samples, all at once or as it comes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from ..ir.errors import UsageError
from ..lowering.target import needs
from .recordings import CLIPPED, SILENT, Note, Recording, as_wanted, clipped, read_recording
from .riff import FLOAT, Header, read_header

NAME = "standard input"
STARTS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")  # files, not samples
RAW_BYTES = 2  # of a bare sample: 16 bits, signed, little-endian, one channel


def read_pipe(stream: BinaryIO, rate: int) -> Recording:
    """All that comes, at `rate` Hz: a file (WAV, FLAC, Ogg, MP3), else bare samples (s16le, mono, at that rate).

    Raises `UsageError` SC030 for text, SC031 for nothing, and as `read_recording`.
    """
    data = stream.read()
    if data.startswith(STARTS):
        return read_recording(data, rate, NAME)
    live = LivePipe(io.BytesIO(data), rate, max(1, len(data)))
    blocks = list(live)
    return Recording(NAME, np.concatenate(blocks), rate, live.notes)


class LivePipe:
    """Blocks of float32 samples at `rate` Hz as they come, of about `block` samples; afterwards, `notes` on them all.

    Takes PCM WAV and bare samples; other formats are read to their end first. Raises as `read_pipe`.
    """

    def __init__(self, stream: BinaryIO, rate: int, block: int):
        self.stream, self.rate, self.block = stream, rate, block
        self.notes: list[Note] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        start = self.stream.read(4)
        if not start:
            raise UsageError("SC031", f"{NAME} is empty: it has no bytes")
        if not start.startswith(STARTS):
            yield from self._bare(start)
            return
        seen = _Kept(start, self.stream)
        header = read_header(seen)
        if header is not None and header.plain:
            seen.forget()
            yield from self._samples(header)
            return
        recording = read_recording(seen.all(), self.rate, NAME)
        self.notes = recording.notes
        yield from np.split(recording.samples, range(self.block, len(recording.samples), self.block))

    def _bare(self, start: bytes) -> Iterator[np.ndarray]:
        start += self.stream.read(4096 - len(start))
        if _is_text(start):
            raise UsageError("SC030", f"{NAME} is text, not audio", hints=["pipe a WAV, or 16-bit samples, into it"])
        self.notes.append(Note("raw", f"no header: taken as 16-bit little-endian mono at {self.rate} Hz"))
        head = Header(1, 1, self.rate, 16, RAW_BYTES, None)
        yield from self._samples(head, start)

    def _samples(self, header: Header, start: bytes = b"") -> Iterator[np.ndarray]:
        resample = None
        if header.rate != self.rate:
            resample = needs("soxr", "audio").ResampleStream(header.rate, self.rate, 1, dtype="float32")
        size = max(1, round(self.block * header.rate / self.rate)) * header.frame_bytes
        left, read, full, low, high = header.promised, 0, 0, np.inf, -np.inf
        rest = start
        while True:
            want = size - len(rest) if left is None else min(size - len(rest), left - read - len(rest))
            got = rest + (self.stream.read(want) if want > 0 else b"")
            whole = len(got) // header.frame_bytes * header.frame_bytes
            if not whole:
                rest = got
                break
            block, rest = decoded(got[:whole], header), got[whole:]
            read += whole
            if not np.isfinite(block).all():
                raise UsageError("SC032", f"{NAME} holds NaN or infinite samples")
            mono, notes = as_wanted(block, header.rate, None)
            full, low, high = full + clipped(block), min(low, float(mono.min())), max(high, float(mono.max()))
            self.notes += [n for n in notes if n.kind != "silent" and n not in self.notes]
            yield mono if resample is None else resample.resample_chunk(mono)
        if resample is not None:
            self.notes.append(Note("resampled", f"{header.rate} Hz to {self.rate} Hz"))
            yield resample.resample_chunk(np.zeros(0, np.float32), last=True)
        self._judge(header, read, rest, high - low, full)

    def _judge(self, header: Header, read: int, rest: bytes, span: float, full: int) -> None:
        seconds = lambda n: n / header.frame_bytes / header.rate
        if not read:
            raise UsageError("SC031", f"{NAME} holds no samples")
        if header.promised is not None and header.promised - read >= header.frame_bytes:
            says = f"its header promises {seconds(header.promised):.2f} s, there are {seconds(read):.2f} s"
            self.notes.append(Note("cut off", says))
        elif rest:
            self.notes.append(Note("cut off", f"it ends with {len(rest)} bytes of a sample of {header.frame_bytes}"))
        if span < 2 * SILENT:
            self.notes.append(Note("silent", "its peak is below -60 dBFS"))
        if full >= CLIPPED:
            self.notes.append(Note("clipped", f"{full} samples at full scale"))


def decoded(data: bytes, header: Header) -> np.ndarray:
    """Samples float32[n, channels] of whole frames of PCM or floats."""
    if header.tag == FLOAT:
        samples = np.frombuffer(data, f"<f{header.bits // 8}").astype(np.float32)
    elif header.bits == 8:
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    else:
        width = header.bits // 8
        whole = np.zeros((len(data) // width, 4), np.uint8)
        whole[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
        samples = (whole.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return samples.reshape(-1, header.channels)


class _Kept:
    """A stream that keeps what was read of it, until it is told to forget."""

    def __init__(self, start: bytes, stream: BinaryIO):
        self.next, self.stream, self.kept = start, stream, b""

    def read(self, size: int) -> bytes:
        out, self.next = self.next[:size], self.next[size:]
        out += self.stream.read(size - len(out)) if len(out) < size else b""
        self.kept += out
        return out

    def forget(self) -> None:
        self.kept = b""

    def all(self) -> bytes:
        return self.kept + self.next + self.stream.read()


def _is_text(start: bytes) -> bool:
    """Whether bytes are letters: no sound has none of the 31 low codes, other than tab and line ends."""
    try:
        text = start.decode(errors="strict") if len(start) < 4096 else start.decode(errors="ignore")
    except UnicodeDecodeError:
        return False
    return len(text) >= 0.9 * len(start) / 2 and all(c.isprintable() or c in "\t\r\n\f" for c in text)

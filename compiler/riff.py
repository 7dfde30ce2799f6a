"""The header of a WAV file (Microsoft RIFF, and RF64 of EBU 3306): its format, and how much audio it promises."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
OPEN = 0x7FFF0000  # writers that cannot go back put this, or more, where they do not know the size


@dataclass(frozen=True)
class Header:
    """Format tag, channels, Hz, bits a sample, bytes a frame; `promised` bytes of audio (None: not said)."""

    tag: int
    channels: int
    rate: int
    bits: int
    frame_bytes: int
    promised: int | None

    @property
    def plain(self) -> bool:
        """Whether the samples are integers of whole bytes or floats, which numpy reads."""
        return (self.tag, self.bits) in ((PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64))


def read_header(stream: BinaryIO) -> Header | None:
    """Read up to the first sample; None where this is no WAV, or none with a format and audio in it."""
    start = stream.read(12)
    if len(start) < 12 or start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        return None
    form, large = None, None
    while len(head := stream.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            return None if form is None else _header(form, size, large)
        body = stream.read(size + size % 2)
        if len(body) < size:
            return None
        if name == b"fmt " and size >= 16:
            form = body
        elif name == b"ds64" and size >= 16:
            (large,) = struct.unpack("<Q", body[8:16])
    return None


def _header(form: bytes, size: int, large: int | None) -> Header | None:
    tag, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack("<H", form[24:26])
    if not (channels and rate and frame):
        return None
    promised = large if size == 0xFFFFFFFF else None if size >= OPEN else size
    return Header(tag, channels, rate, bits, frame, promised)

"""What a file is, by its content alone: the members of a zip, or the first bytes."""

from __future__ import annotations

import zipfile
from enum import Enum
from pathlib import Path

from ...ir.errors import CaptureError


class Kind(Enum):
    """The forms of file that capture tells apart."""

    ARCHIVE = "torch.export archive"
    SCRIPT = "TorchScript"
    PICKLE = "pickle"
    OTHER = "something else"


_MAGIC = [
    (0, b"TFL3", "a TFLite file"),
    (4, b"TFL3", "a TFLite file"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"RIFF", "a RIFF file (audio?)"),
    (0, b"fLaC", "audio"),
    (0, b"\x89PNG", "an image"),
    (0, b"\x7fELF", "a program"),
]


def recognise(path: Path) -> tuple[Kind, str]:
    """The kind of a file, and for `OTHER` what it seems to be.

    Raises `CaptureError`: SC400 missing, empty, a folder or unreadable; SC402 a zip archive that is cut off.
    """
    try:
        if path.is_dir():
            raise CaptureError("SC400", f"{path} is a folder, not a model file")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        hints = ["a Python model is written package.module:factory"] if isinstance(error, FileNotFoundError) else []
        raise CaptureError("SC400", f"cannot read {path}: {reason}", hints=hints) from None
    if size == 0:
        raise CaptureError("SC400", f"{path} is empty")
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return Kind.PICKLE, ""
    for at, magic, name in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return Kind.OTHER, f"it is {name}"
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        raise CaptureError(
            "SC404",
            f"{path} holds weights alone (safetensors)",
            hints=["pass the model as package.module:factory and this file with --weights"],
        )
    return Kind.OTHER, "neither a zip archive nor a pickle"


def _zip_kind(path: Path) -> tuple[Kind, str]:
    try:
        with zipfile.ZipFile(path) as file:
            if min((i.header_offset for i in file.infolist()), default=0):
                raise zipfile.BadZipFile("its directory is that of another archive inside it")
            names = [n.partition("/")[2] or n for n in file.namelist()] + file.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CaptureError(
            "SC402", f"{path} is damaged or cut off: {error}", hints=["copy or export the file again"]
        ) from None
    if "archive_format" in names or "serialized_exported_program.json" in names or any(
        n.startswith("models/") and n.endswith(".json") for n in names
    ):  # fmt: skip
        return Kind.ARCHIVE, ""
    if "constants.pkl" in names or any(n.startswith("code/") for n in names):
        return Kind.SCRIPT, ""
    if "data.pkl" in names:
        return Kind.PICKLE, ""
    return Kind.OTHER, f"a zip archive of {', '.join(sorted(set(names))[:3])} ..."

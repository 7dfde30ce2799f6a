"""What a compilation has made, and what it was shown to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .check import Proof
from .manager import Step
from .numerics import Difference
from .recordings import Summary
from .show_stream import size_text
from .streamed import Streamed
from .words import WordErrors


@dataclass
class Report:
    """What came out; `as_dict` is the object that `--json` prints."""

    artefact: Path
    files: list[Path]
    target: str
    precision: str
    bytes: int
    proof: Proof
    steps: list[Step]
    remarks: list[str]
    seconds: float
    rewrite: Difference | None = None  # what rewrites that change the meaning lose
    streamed: Streamed | None = None
    words: WordErrors | None = None  # where recordings with texts were given
    checked_by: str = ""  # what ran the file
    modules: list[dict[str, Any]] = field(default_factory=list)  # ops and bytes of weights, captured and compiled
    calibration: Summary | None = None  # what became of the recordings in the folder that was given

    @property
    def size_text(self) -> str:
        """The size, of all files but the manifest."""
        count = sum(not f.name.endswith(".json") for f in self.files)
        return size_text(self.bytes) + (f" in {count} files" if count > 1 else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; infinite SNR (no difference at all) is null."""
        file = self.proof.file.as_dict()
        more = {} if self.rewrite is None else {"rewrite": self.rewrite.as_dict()}
        more |= {} if self.words is None else {"word_errors": self.words.as_dict()}
        more |= {} if self.calibration is None else {"calibration": self.calibration.as_dict()}
        return more | {
            "artefact": str(self.artefact),
            "files": [str(f) for f in self.files],
            "target": self.target,
            "precision": self.precision,
            "bytes": self.bytes,
            "largest_error": file["error"],
            "snr": file["snr"],
            "file_against_graph": self.proof.between.as_dict(),
            "checked_by": self.checked_by,
            "checked_at": self.proof.lengths,
            "ops_captured": sum(m["ops_before"] for m in self.modules),
            "modules": self.modules,
            "passes": [s.as_dict() for s in self.steps],
            "remarks": self.remarks,
            "seconds": round(self.seconds, 3),
            **({} if self.streamed is None else {"streaming": self.streamed.as_dict()}),
        }

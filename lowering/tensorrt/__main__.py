"""`python -m speechc.lowering.tensorrt MODEL.onnx OUT.engine`: build an engine again, as its manifest says."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...ir.errors import SpeechcError
from .build import Settings, build
from .profiles import from_text


def main(arguments: list[str] | None = None) -> int:
    """Build the engine; the exit status is that of the error, if there is one."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    parser.add_argument("model", type=Path, help="the ONNX file beside the engine")
    parser.add_argument("engine", type=Path, help="the file to write")
    parser.add_argument("--shapes", action="append", default=[], help="NAME=LEAST,USUAL,LARGEST, like 1x160x80")
    parser.add_argument("--compute-capability", default="", help="GPUs to build for: 8.6, or 8.0,8.9")
    parser.add_argument("--workspace", type=int, help="bytes that a layer may use")
    parser.add_argument("--timing-cache", type=Path, help="a file of timings, read and written")
    given = parser.parse_args(arguments)
    capabilities = tuple(c for c in given.compute_capability.split(",") if c)
    try:
        settings = Settings(from_text(given.shapes), capabilities, given.timing_cache, given.workspace)
        engine, _ = build(given.model, settings)
    except SpeechcError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    given.engine.write_bytes(engine)
    print(f"wrote {given.engine}, {len(engine)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

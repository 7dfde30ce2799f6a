"""The commands that build an engine again from the ONNX file beside it: this package's own, and NVIDIA's tools'."""

from __future__ import annotations

import shlex
from pathlib import Path

from .build import Settings
from .profiles import as_text

MODULE = "speechc.lowering.tensorrt"


def rebuild(onnx: str, engine: str, settings: Settings) -> str:
    """The command of this package, to be run in the folder of both files."""
    words = ["python", "-m", MODULE, onnx, engine]
    for text in as_text(settings.shapes):
        words += ["--shapes", text]
    if settings.capabilities:
        words += ["--compute-capability", ",".join(settings.capabilities)]
    if settings.workspace is not None:
        words += ["--workspace", str(settings.workspace)]
    if settings.timing_cache is not None:
        words += ["--timing-cache", str(Path(settings.timing_cache).absolute())]
    return shlex.join(words)


def tool(sdk: str, onnx: str, engine: str, settings: Settings) -> str:
    """The command of the tool that comes with the SDK's archive: `trtexec`, or `tensorrt_rtx`."""
    words = ["trtexec", "--stronglyTyped"] if sdk == "tensorrt" else ["tensorrt_rtx"]
    words += [f"--onnx={onnx}"]
    for i, bound in enumerate(("minShapes", "optShapes", "maxShapes")):
        if settings.shapes:
            sizes = (f"{name}:{'x'.join(map(str, three[i]))}" for name, three in settings.shapes.items())
            words.append(f"--{bound}={','.join(sizes)}")
    return shlex.join([*words, f"--saveEngine={engine}"])

"""What each node of a file takes, from onnxruntime's trace, told by the module paths that node names carry."""

from __future__ import annotations

import json
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..target import OpTime, needs
from .run import OnnxSession

TIMED = "_kernel_time"  # ends the trace's name of a node that ran


def profile(path: Path, calls: Iterable[Mapping[str, np.ndarray]], threads: int | None = None) -> list[OpTime]:
    """Seconds of every node over these calls, the first of which only warms up and is left out.

    A node that onnxruntime fused is counted at the module that its name comes from; what it added of its own (such as
    a change of layout) has the path "".
    """
    with tempfile.TemporaryDirectory() as folder:
        session = OnnxSession(path, threads, trace=Path(folder) / "trace")
        for feeds in calls:
            session.run_named(feeds)
        events = json.loads(Path(session.session.end_profiling()).read_text())
    runs = sorted(e["ts"] for e in events if e.get("name") == "model_run")
    start = runs[1] if len(runs) > 1 else 0
    places = Places(path)
    found: dict[tuple[str, str], float] = defaultdict(float)
    for e in events:
        if e.get("cat") == "Node" and e["name"].endswith(TIMED) and e["ts"] >= start:
            found[e["name"].removesuffix(TIMED), e["args"]["op_name"]] += e["dur"] / 1e6
    return [OpTime(places.of(name), kind, name, seconds) for (name, kind), seconds in found.items()]


class Places:
    """Module paths of nodes by name: those of the file, and those that a runtime made of them."""

    def __init__(self, path: Path):
        onnx = needs("onnx", "onnx")
        model = onnx.load(str(path), load_external_data=False)
        self.names = sorted(n.name for n in model.graph.node if n.name.startswith("/"))

    def of(self, name: str) -> str:
        """The module path of a node; of one that a runtime made, that of the node whose name its own begins with."""
        at = bisect_right(self.names, name)
        shared = next((n for n in reversed(self.names[:at]) if name.startswith(n)), "")
        return shared.rpartition("/")[0].strip("/").replace("/", ".")

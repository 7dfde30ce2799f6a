"""The most memory that this process has held."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_bytes() -> int | None:
    """The largest resident set of this process so far, in bytes; None where the system does not say.

    On Linux that is VmHWM of /proc/self/status: unlike getrusage it starts anew with the program (proc(5)).
    """
    if sys.platform.startswith("linux"):
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
        return int(found[1]) * 1024 if found else None
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes there
    return None

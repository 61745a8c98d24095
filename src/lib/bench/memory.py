"""Memory of a measured process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_memory() -> float:
    """Peak resident memory of this process in GiB, mapped files included."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with the memory of the parent
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)

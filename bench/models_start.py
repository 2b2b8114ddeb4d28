"""How long a server with no torch model in its own process takes to its first answer.

From the start of the process, through configuration, models, store and history, to the first GET
/livez that is answered; peer: the import of torch alone, which such a server does not need.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from predawn.bench import rig
from predawn.bench.child import free_port
from predawn.bench.harness import Effort, Row, Stamp, times_better

CASE = "start of a server without torch"
_POLL_S = 0.002


def rows(mark: Stamp, *, effort: Effort, smoke: bool) -> list[Row]:
    """Median seconds of some starts."""
    if not effort.wants(CASE):
        return []
    turns = 1 if smoke else 7
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
        ours = [_start_s(Path(folder) / str(turn)) for turn in range(turns)]
    torch_s = float(np.median([_import_torch_s() for _ in range(min(turns, 3))]))
    value = float(np.median(ours))
    ratio = times_better(value, torch_s)
    return [mark.row(CASE, "time", value, "s", peer="import torch", ratio=ratio, n=turns)]


def _start_s(folder: Path) -> float:
    """Of a server with models that cost nothing."""
    port = free_port()
    start = time.perf_counter()
    with rig.start(rig.bare_settings(folder, port), folder) as server:
        server.wait_ready("/livez", rig.READY_S, poll_s=_POLL_S)
        return time.perf_counter() - start


def _import_torch_s() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - start

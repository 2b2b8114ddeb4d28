"""How long a server with no torch in its own process takes to its first answer.

From the start of the process, through configuration, models, store and history, to the first GET
/livez that is answered: with models of numpy, which the server waits for, and with a trained user
tower, which a process of its own loads meanwhile. Peer: the import of torch alone.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from predawn.bench import rig
from predawn.bench.child import free_port
from predawn.bench.harness import Effort, Row, Stamp, times_better
from predawn.bench.prepare import SMALL, prepare, state_dir

OWN = "start of a server, models of numpy"
TRAINED = "start of a server, trained tower in a process of its own"
_POLL_S = 0.002


def rows(mark: Stamp, *, effort: Effort, smoke: bool) -> list[Row]:
    """Median seconds of some starts of each kind."""
    turns = 1 if smoke else 7
    made: dict[str, Callable[[], rig.Settings]] = {OWN: _own, TRAINED: _trained}
    wanted = {name: settings() for name, settings in made.items() if effort.wants(name)}
    if not wanted:
        return []
    torch_s = float(np.median([_import_torch_s() for _ in range(min(turns, 3))]))
    found: list[Row] = []
    for name, settings in wanted.items():
        value = float(np.median([_start_s(settings) for _ in range(turns)]))
        ratio = times_better(value, torch_s)
        found.append(mark.row(name, "time", value, "s", peer="import torch", ratio=ratio, n=turns))
    return found


def _own() -> rig.Settings:
    return rig.bare_settings(Path(), 0)


def _trained() -> rig.Settings:
    snapshot = prepare(SMALL, state_dir() / "models", lambda stage, share: None).snapshot
    settings = rig.reference_settings(Path(), 0, snapshot, {})
    return {**settings, "engine": {"isolation": "process"}}


def _start_s(settings: rig.Settings) -> float:
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
        place = {
            "http": {**settings["http"], "port": free_port()},
            "history": {"path": f"{folder}/history"},
        }
        start = time.perf_counter()
        with rig.start({**settings, **place}, Path(folder)) as server:
            server.wait_ready("/livez", rig.READY_S, poll_s=_POLL_S)
            return time.perf_counter() - start


def _import_torch_s() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - start

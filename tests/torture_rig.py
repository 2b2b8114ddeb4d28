"""A crew on a small store, for the tests of the torture's parts."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from predawn.bench.torture_crew import Crew
from predawn.bench.torture_phases import PHASES
from predawn.csrc import _torture

WORKERS = 2


@contextmanager
def crew_at(
    folder: Path, phase: str = "one set"
) -> Generator[tuple[Crew, _torture.Supervisor], None, None]:
    """All at work, the supervisor attached; nobody is left afterwards."""
    store, oracle = str(folder / "store"), str(folder / "oracle")
    PHASES[phase].create(store, oracle, WORKERS, 1)
    supervisor = _torture.Supervisor(store, oracle, 1)
    supervisor.attach()
    crew = Crew(store, oracle, supervisor, WORKERS, Random(1))
    try:
        crew.start(range(WORKERS))
        crew.await_start(range(WORKERS))
        yield crew, supervisor
    finally:
        crew.close()
        supervisor.close()

"""The torture of the store: processes that verify, write, are killed and stopped at any moment.

Invariant: every hit is verified, every restart compared with what was there before; whatever is
wrong is in the report, with its context, and makes `faults` say so. Files live in memory and go
with the run.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from predawn.bench.store_tables import scratch
from predawn.bench.torture_crew import Crew
from predawn.bench.torture_disturb import Disturber
from predawn.bench.torture_phases import PHASES, Phase
from predawn.bench.torture_tally import Tally
from predawn.csrc import _torture

_ROUND_S = 2.5


def _unheard(phase: str, share: float) -> None:
    del phase, share


def run(
    seconds: float,
    *,
    workers: int = 4,
    seed: int = 1,
    phases: Sequence[str] = tuple(PHASES),
    plant: str = "",
    told: Callable[[str, float], None] = _unheard,
) -> dict[str, object]:
    """The report of a torture of about so many seconds (at least a round of each phase).

    workers: processes, at most `_torture.WORKERS`. plant: damage done on purpose all the time, as
    in `_torture.Supervisor.plant`: the report must show it. told: is told phase and share done.
    """
    tally, random = Tally(), Random(seed)
    begin = time.monotonic()
    weights = sum(PHASES[name].weight for name in phases)
    with scratch() as folder:
        for name in phases:
            phase = PHASES[name]
            run_s = seconds * phase.weight / weights
            _Run(phase, folder, workers, random, tally, plant).run(run_s, told)
    return tally.report(time.monotonic() - begin, workers, seed)


class _Run:
    """One phase: a new store, and rounds of torture that each end in a restart of another kind."""

    def __init__(
        self, phase: Phase, folder: Path, workers: int, random: Random, tally: Tally, plant: str
    ) -> None:
        self._phase = phase
        name = phase.name.replace(" ", "-")
        self._store, self._oracle = str(folder / f"{name}.store"), str(folder / f"{name}.oracle")
        self._workers, self._random, self._tally = workers, random, tally
        self._plant = plant

    def run(self, seconds: float, told: Callable[[str, float], None]) -> None:
        begin = time.monotonic()
        seed = self._random.getrandbits(48)
        self._phase.create(self._store, self._oracle, self._workers, seed)
        supervisor = _torture.Supervisor(self._store, self._oracle, seed)
        crew = Crew(self._store, self._oracle, supervisor, self._workers, self._random)
        try:
            supervisor.attach()
            self._rounds(supervisor, crew, begin, seconds, told)
            self._tally.claims_reaped += supervisor.reaped()
        finally:
            crew.close()
            supervisor.close()
        self._tally.add_phase(self._phase.name, time.monotonic() - begin, supervisor.totals())
        self._tally.violations += [
            {"phase": self._phase.name, **one} for one in supervisor.violations()
        ]
        for path in (self._store, self._oracle):
            Path(path).unlink()

    def _rounds(
        self,
        supervisor: _torture.Supervisor,
        crew: Crew,
        begin: float,
        seconds: float,
        told: Callable[[str, float], None],
    ) -> None:
        disturber = Disturber(crew, supervisor, self._random, self._tally, self._plant)
        ends = (self._end_alive, self._end_unclean, self._end_clean)
        rounds = max(1, round(seconds / _ROUND_S))
        everybody = range(self._workers)
        for turn in range(rounds):
            crew.start(everybody)
            crew.await_start(everybody)
            until = begin + seconds * (turn + 1) / rounds
            disturb = disturber.watch_bystanders if self._phase.is_paced else disturber.disturb
            disturb(
                until,
                lambda: told(self._phase.name, min(1.0, (time.monotonic() - begin) / seconds)),
            )
            ends[self._tally.rounds % len(ends)](supervisor, crew)
            self._look(supervisor)
            self._tally.rounds += 1
        told(self._phase.name, 1.0)

    def _end_unclean(self, supervisor: _torture.Supervisor, crew: Crew) -> None:
        """All die, then somebody comes: what was there is there."""
        for worker in crew.running():
            crew.stop(worker)
        before = supervisor.found()
        supervisor.close()
        self._kill_all(crew)
        supervisor.attach()
        self._tally.unclean_restarts += 1
        kept, dropped = supervisor.recovered()
        self._tally.recovered_kept += kept
        self._tally.recovered_dropped += dropped
        self._tally.valid_before += before
        self._tally.found_after += min(before, supervisor.found())

    def _end_alive(self, supervisor: _torture.Supervisor, crew: Crew) -> None:
        """All but the supervisor die: it takes their claims back."""
        self._kill_all(crew)
        self._tally.claimed_sets_after_kills += supervisor.claimed_sets()

    def _end_clean(self, supervisor: _torture.Supervisor, crew: Crew) -> None:
        """All end as told, and nobody has died since the store was last looked over: who comes
        need not check anything."""
        crew.end()
        supervisor.close()
        supervisor.attach()  # some were killed in this round: looked over, perhaps
        supervisor.found()
        supervisor.close()
        supervisor.attach()
        self._tally.clean_restarts += 1
        if supervisor.recovered() != (0, 0):
            self._tally.sentences.append(f"{self._phase.name}: a clean stop was taken as unclean")
        supervisor.found()

    def _kill_all(self, crew: Crew) -> None:
        for worker in crew.living():
            self._tally.kills += 1
            crew.kill(worker)

    def _look(self, supervisor: _torture.Supervisor) -> None:
        self._tally.stuck_sets += supervisor.stuck_sets()
        self._tally.sentences += [
            f"{self._phase.name}: {sentence}" for sentence in supervisor.check()
        ]

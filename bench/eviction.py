"""Hit ratios of the store's eviction policy: the compiled policy on synthetic traffic.

The simulator is built from the sources when the suite runs; it puts csrc/policy.hpp and
csrc/steering.hpp through the same accesses as its peers: one LRU list and one SIEVE queue over
all entries, which no concurrent cache can have for free. Figures depend on seeds alone, not on the
machine: the mean over seeds, and of what has a bar the worst seed.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

from predawn.bench.harness import BenchError, Effort, Row, Stamp

_ROOT = Path(__file__).resolve().parent.parent
_SOURCE = _ROOT / "tests" / "csrc" / "policy_simulator.cpp"
_PEERS = {"global-lru": "global LRU", "global-sieve": "global SIEVE"}

Options = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Window:
    """A report of the simulator. hit_ratio in %; rule, quota: what most sets follow at its end."""

    at: int
    hit_ratio: float
    rule: str
    quota: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. phase: accesses between changes of the traffic; window: how finely it is watched."""

    keys: int
    accesses: int
    phase: int
    window: int
    seeds: tuple[int, ...]


FULL = Plan(500_000, accesses=4_000_000, phase=1_000_000, window=10_000, seeds=(1, 2, 3))
SMOKE = Plan(10_000, accesses=40_000, phase=10_000, window=2_000, seeds=(1,))

_TENTH, _HUNDREDTH = 10, 100
_ZIPF = 0.8  # of the traffic beside speculative fills

# name -> (keys per entry, what the traffic is like)
_TRAFFIC: dict[str, tuple[int, Options]] = {
    "Zipf 0.7, C = 10 %": (_TENTH, {"alpha": 0.7}),
    "Zipf 0.9, C = 10 %": (_TENTH, {"alpha": 0.9}),
    "Zipf 0.99, C = 10 %": (_TENTH, {"alpha": 0.99}),
    "Zipf 0.7, C = 1 %": (_HUNDREDTH, {"alpha": 0.7}),
    "Zipf 0.9, C = 1 %": (_HUNDREDTH, {"alpha": 0.9}),
    "Zipf 0.99, C = 1 %": (_HUNDREDTH, {"alpha": 0.99}),
    "Zipf 0.9, drift 1 per 10 accesses": (_TENTH, {"alpha": 0.9, "drift": 0.1}),
    "Zipf 0.9, drift 1 per access": (_TENTH, {"alpha": 0.9, "drift": 1}),
    "Zipf 0.9, decay 1 per 10 accesses": (_TENTH, {"alpha": 0.9, "drift": -0.1}),
    "Zipf 0.9, decay 1 per access": (_TENTH, {"alpha": 0.9, "drift": -1}),
    "Zipf 0.7, 60 % repeats": (_TENTH, {"alpha": 0.7, "repeated": 0.6}),
    "Zipf 0.9, 30 % scan": (_TENTH, {"alpha": 0.9, "scanned": 0.3}),
}
_PHASES: dict[str, Options] = {
    "still and drifting in turns": {"alpha": 0.9, "other_drift": 0.1},
    "Zipf 0.9 and 0.7 in turns": {"alpha": 0.9, "other_alpha": 0.7},
}


@dataclass(frozen=True, slots=True)
class Fills:
    """Speculation beside requests. precision: share asked for later, after `lead` accesses."""

    per_access: float
    precision: float
    lead: tuple[int, int]

    def __str__(self) -> str:
        low, high = self.lead
        rate = f"{self.per_access:g} fills per access"
        return f"{rate}, {self.precision:.0%} right, lead {low:,}-{high:,}"

    def options(self) -> dict[str, float]:
        """As the simulator reads them."""
        of_lead = {"lead_min": self.lead[0], "lead_max": self.lead[1]}
        return {"fills": self.per_access, "precision": self.precision, **of_lead}


_FILLS = (
    Fills(2, 0.02, (100, 1_000)),
    Fills(2, 0.1, (100, 1_000)),
    Fills(2, 0.6, (100, 1_000)),
    Fills(0.5, 0.02, (1_000, 10_000)),
    Fills(2, 0.02, (1_000, 10_000)),
    Fills(2, 0.3, (1_000, 10_000)),
    Fills(2, 0.6, (1_000, 10_000)),
)
_QUOTAS = (1, 2, 3, 5, 8)
_MATTERS = 2.0  # points between two rules


class Simulator:
    """The compiled simulator; lives in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Builds it; BenchError with the compiler's words where that fails."""
        if not _SOURCE.is_file():
            raise BenchError(f"eviction: needs predawn's sources; {_SOURCE.name} is not there")
        self._binary = folder / "policy_simulator"
        compiler = os.environ.get("CXX", "c++")
        command = [compiler, "-std=c++20", "-O3", f"-I{_ROOT / 'csrc'}", str(_SOURCE)]
        _words(f"{compiler} (set CXX to a C++20 compiler)", [*command, "-o", str(self._binary)])

    def run(self, caches: Sequence[str], options: Options) -> dict[str, list[Window]]:
        """The reports of each cache, in order; BenchError where the simulator refuses."""
        command = [f"{name}={value!r}" for name, value in options.items()]
        command = [str(self._binary), f"caches={','.join(caches)}", *command]
        windows: dict[str, list[Window]] = {name: [] for name in caches}
        for line in _words("policy_simulator", command).splitlines():
            name, at, accesses, hits, rule, quota = line.split()
            ratio = 100 * int(hits) / int(accesses)
            windows[name].append(Window(int(at), ratio, rule, int(quota)))
        return windows

    def hit_ratio(self, cache: str, options: Options) -> float:
        """In %, of the second half of the accesses."""
        return self.run([cache], options)[cache][-1].hit_ratio


def _words(what: str, command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BenchError(f"eviction: {what}: {error}") from error
    if done.returncode:
        raise BenchError(f"eviction: {what} failed: {done.stderr.strip()}")
    return done.stdout


def run(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """Traffic of one kind, of two kinds in turns, and beside speculative fills."""
    plan = SMOKE if smoke else FULL
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="predawn-") as folder:
        measures = _measures(mark, plan, Simulator(Path(folder)))
        for done, (name, measure) in enumerate(measures.items()):
            effort.progress(done / len(measures))
            if effort.wants(name):
                rows += measure()
    return rows


def _measures(
    mark: Stamp, plan: Plan, simulator: Simulator
) -> dict[str, Callable[[], Iterator[Row]]]:
    """Case -> what measures it."""
    bound = (mark, plan, simulator)
    still = {
        name: partial(_against_peers, *bound, name, _sized(plan, part, options))
        for name, (part, options) in _TRAFFIC.items()
    }
    turns = {
        name: partial(_in_turns, *bound, name, _sized(plan, _TENTH, options))
        for name, options in _PHASES.items()
    }
    filled = {str(fills): partial(_beside_fills, *bound, fills) for fills in _FILLS}
    return {**still, **turns, **filled}


def _sized(plan: Plan, part: int, options: Options) -> dict[str, float]:
    sizes = {"keys": plan.keys, "capacity": plan.keys // part, "accesses": plan.accesses}
    return {**sizes, **options}


def _against_peers(
    mark: Stamp, plan: Plan, simulator: Simulator, case: str, options: Options
) -> Iterator[Row]:
    """hit_ratio against each peer; behind_best in points, of the worst seed."""
    found: dict[str, list[float]] = {name: [] for name in ("predawn", *_PEERS)}
    for seed in plan.seeds:
        for name, windows in simulator.run(list(found), {**options, "seed": seed}).items():
            found[name].append(windows[-1].hit_ratio)
    own, n = mean(found["predawn"]), plan.accesses // 2 * len(plan.seeds)
    for name, peer in _PEERS.items():
        ratio = own / mean(found[name])
        yield mark.row(case, "hit_ratio", own, "%", "higher", peer=peer, ratio=ratio, n=n)
    best = [max(pair) for pair in zip(*(found[name] for name in _PEERS), strict=True)]
    behind = max(top - ours for top, ours in zip(best, found["predawn"], strict=True))
    yield mark.row(case, "behind_best", behind, "points", n=n)


def _in_turns(
    mark: Stamp, plan: Plan, simulator: Simulator, case: str, options: Options
) -> Iterator[Row]:
    """As against peers, in long runs; and how soon the better rule is followed after a change."""
    phases = {**options, "phase": plan.phase, "accesses": 8 * plan.phase}
    yield from _against_peers(mark, plan, simulator, case, phases)
    watched = {**phases, "every": plan.window}
    delays = [
        delay
        for seed in plan.seeds
        for delay in _delays(plan, simulator, {**watched, "seed": seed})
    ]
    per_entry = max(delays, default=0) / options["capacity"]
    yield mark.row(case, "slowest_change", per_entry, "accesses/entry", n=len(delays))


def _delays(plan: Plan, simulator: Simulator, options: Options) -> Iterator[int]:
    """Accesses from each change of traffic to the rule that proves better, where that matters."""
    found = simulator.run(["predawn", "clock", "sieve"], options)
    per_phase = plan.phase // plan.window
    for start in range(per_phase, len(found["predawn"]), per_phase):
        end = start + per_phase
        late = slice(start + per_phase // 2, end)
        ratios = {rule: _mean_ratio(found[rule][late]) for rule in ("clock", "sieve")}
        better = max(ratios, key=ratios.__getitem__)
        if ratios[better] - min(ratios.values()) < _MATTERS:
            continue
        follows = [window.rule == better for window in found["predawn"][start:end]]
        last_wrong = max((i for i, right in enumerate(follows) if not right), default=-1)
        yield (last_wrong + 1) * plan.window


def _mean_ratio(windows: Sequence[Window]) -> float:
    return mean(window.hit_ratio for window in windows)


def _beside_fills(mark: Stamp, plan: Plan, simulator: Simulator, fills: Fills) -> Iterator[Row]:
    """What fills cost or gain demanded reads, and how far the steered quota is from the best."""
    case = str(fills)
    bare = _sized(plan, _TENTH, {"alpha": _ZIPF})
    filled = {**bare, **fills.options()}
    own, cost, quotas = list[float](), list[float](), list[int]()
    for seed in plan.seeds:
        window = simulator.run(["predawn"], {**filled, "seed": seed})["predawn"][-1]
        own.append(window.hit_ratio)
        quotas.append(window.quota)
        cost.append(simulator.hit_ratio("predawn", {**bare, "seed": seed}) - window.hit_ratio)
    n = plan.accesses // 2 * len(plan.seeds)
    yield mark.row(case, "hit_ratio", mean(own), "%", "higher", n=n)
    yield mark.row(case, "cost", max(cost), "points", n=n)
    yield mark.row(case, "quota", mean(quotas), "ways", n=len(quotas))
    seed = plan.seeds[0]
    best = max(
        simulator.hit_ratio("sieve", {**filled, "seed": seed, "quota": quota}) for quota in _QUOTAS
    )
    yield mark.row(case, "behind_best_quota", best - own[0], "points", n=plan.accesses // 2)

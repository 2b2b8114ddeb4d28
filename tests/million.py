"""The simulation of pairs for as many virtual requests as one likes: `make simulate`.

`python tests/million.py [--requests 1000000] [--first SEED]`: runs seed after seed on all cores and
says what was seen; the first violation ends it with its seed. About half a millisecond of CPU a
request.
"""

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sim.ahead_traffic import play

from predawn.server.request import Source
from predawn.server.speculation.ledger import OUTCOMES

REQUESTS = 1_000  # of a seed
_BATCH = 16  # seeds of one job


@dataclass
class Seen:
    """What some seeds have seen. violation: the first, with its seed."""

    requests: int = 0
    pairs: Counter[str] = field(default_factory=Counter[str])
    ends: Counter[str] = field(default_factory=Counter[str])
    calls: Counter[str] = field(default_factory=Counter[str])
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    violation: str = ""

    def add(self, other: "Seen") -> None:
        """Both together."""
        self.requests += other.requests
        self.pairs += other.pairs
        self.ends += other.ends
        self.calls += other.calls
        self.virtual_s += other.virtual_s
        self.cpu_s += other.cpu_s
        self.violation = self.violation or other.violation


def run(seeds: range) -> Seen:
    """The worlds of some seeds, up to the first violation."""
    seen, began_s = Seen(), time.process_time()
    for seed in seeds:
        try:
            seen.add(_world(seed))
        except Exception:
            seen.violation = f"seed {seed}:\n{traceback.format_exc()}"
            break
    seen.cpu_s = time.process_time() - began_s
    return seen


def _world(seed: int) -> Seen:
    world = play(seed, REQUESTS)
    seen = Seen(world.checker.requests, virtual_s=world.clock.monotonic_ns() / 1e9)
    for kept in world.checker.kept.values():
        seen.pairs.update({each.label: kept.sources[each] for each in Source})
    for each in world.speculator.models.values():
        ended = each.planner.ledger.counted().outcomes.sum(axis=0).tolist()
        seen.ends.update(dict(zip(OUTCOMES, ended, strict=True)))
    seen.calls.update(call.ended for call in world.engine.calls)
    return seen


def main() -> int:
    """Status 1 at a violation."""
    parser = argparse.ArgumentParser(description="The simulation of pairs.")
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    asked = parser.parse_args()
    worlds = -(-asked.requests // REQUESTS)
    seeds = range(asked.first, asked.first + worlds)
    jobs = [seeds[at : at + _BATCH] for at in range(0, len(seeds), _BATCH)]
    total = Seen()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(run, jobs):
            total.add(done)
            if total.violation:
                pool.shutdown(wait=False, cancel_futures=True)
                print(total.violation, file=sys.stderr)
                return 1
    print(
        f"{total.requests:,} requests in {worlds} worlds of {total.virtual_s / worlds:.0f} virtual "
        f"seconds, {total.cpu_s:.0f} s of CPU: no violation"
    )
    for name, counts in (("pairs", total.pairs), ("ends", total.ends), ("calls", total.calls)):
        print(f"{name}: " + ", ".join(f"{each} {n:,}" for each, n in counts.most_common() if n))
    return 0


if __name__ == "__main__":
    sys.exit(main())

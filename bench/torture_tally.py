"""What a torture has done and found: sums over its phases, and whether they are good."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

# Counts that must be 0, as the report names them.
ERRORS = (
    "torn",
    "wrong_key",
    "older_than_seen",
    "unpublished",
    "stuck_sets",
    "blocked",
    "broken",
    "stalled",
)
FOUND_SHARE_LEAST = 0.99


@dataclass(slots=True)
class Tally:
    """kills, stops: signals that hit a living worker. puts_beside_stopped: into sets in which a
    stopped worker held a slot. stalled: running workers that did nothing while others were stopped.
    before_ms, after_ms: longest batch of any worker that went on, in the time before and after
    each kill of a paced phase."""

    kills: int = 0
    kills_while_stopped: int = 0
    kills_while_starting: int = 0
    stops: int = 0
    claims_of_stopped: int = 0
    puts_beside_stopped: int = 0
    stalled: int = 0
    stuck_sets: int = 0
    claimed_sets_after_kills: int = 0
    claims_reaped: int = 0
    rounds: int = 0
    unclean_restarts: int = 0
    clean_restarts: int = 0
    valid_before: int = 0
    found_after: int = 0
    recovered_kept: int = 0
    recovered_dropped: int = 0
    before_ms: list[float] = field(default_factory=list[float])
    after_ms: list[float] = field(default_factory=list[float])
    sentences: list[str] = field(default_factory=list[str])
    violations: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    phases: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])

    def add_phase(self, name: str, seconds: float, counts: Mapping[str, int]) -> None:
        """Takes a phase's totals in."""
        for key, count in counts.items():
            held = self.counts.get(key, 0)
            self.counts[key] = max(held, count) if key == "changes_of_one_key" else held + count
        kept = ("reads", "misses", "puts", "removals", "undecided", "ways_lost")
        self.phases[name] = {"seconds": seconds, **{key: counts[key] for key in kept}}

    @property
    def found_share(self) -> float:
        """Of the entries that were there before unclean restarts, those found after."""
        return self.found_after / self.valid_before if self.valid_before else 1.0

    def report(self, seconds: float, workers: int, seed: int) -> dict[str, object]:
        """The JSON object."""
        counts = self.counts
        given_up = ("puts_busy", "puts_no_slot", "puts_no_journal")
        return {
            "reads": counts.get("reads", 0),
            "torn": counts.get("torn", 0),
            "wrong_key": counts.get("wrong_key", 0),
            "older_than_seen": counts.get("older_than_seen", 0),
            "unpublished": counts.get("unpublished", 0),
            "kills": self.kills,
            "stops": self.stops,
            "stuck_sets": self.stuck_sets,
            "puts_given_up": sum(counts.get(name, 0) for name in given_up),
            **{name: counts.get(name, 0) for name in given_up},
            "blocked": counts.get("blocked", 0),
            "broken": counts.get("broken", 0) + len(self.sentences),
            "stalled": self.stalled,
            "puts_beside_stopped": self.puts_beside_stopped,
            "claims_of_stopped": self.claims_of_stopped,
            "kills_while_stopped": self.kills_while_stopped,
            "kills_while_starting": self.kills_while_starting,
            "claimed_sets_after_kills": self.claimed_sets_after_kills,
            "claims_reaped": self.claims_reaped,
            "puts": counts.get("puts", 0),
            "removals": counts.get("removals", 0),
            "misses": counts.get("misses", 0),
            "scanned": counts.get("scanned", 0),
            "undecided": counts.get("undecided", 0),
            "ways_lost": counts.get("ways_lost", 0),
            "floors": counts.get("floors", 0),
            "changes_of_one_key": counts.get("changes_of_one_key", 0),
            "unclean_restarts": self.unclean_restarts,
            "clean_restarts": self.clean_restarts,
            "valid_before": self.valid_before,
            "found_after": self.found_after,
            "restart_found_share": self.found_share,
            "recovered_kept": self.recovered_kept,
            "recovered_dropped": self.recovered_dropped,
            "kills_among_bystanders": len(self.before_ms),
            "batch_ms_before": _summary(self.before_ms),
            "batch_ms_after": _summary(self.after_ms),
            "seconds": seconds,
            "reads_per_second": counts.get("reads", 0) / seconds,
            "processes": workers,
            "seed": seed,
            "phases": self.phases,
            "violations": [*self.violations, *self.sentences][:100],
        }


def _summary(longest_ms: list[float]) -> dict[str, float]:
    if not longest_ms:
        return {}
    return {"median": float(np.median(longest_ms)), "max": max(longest_ms)}


def faults(report: Mapping[str, object]) -> list[str]:
    """What in a report must not be, one sentence each."""
    found = [f"{name} is {report[name]}, must be 0" for name in ERRORS if report[name]]
    share = report["restart_found_share"]
    if isinstance(share, float) and share < FOUND_SHARE_LEAST:
        found.append(f"restart_found_share is {share:.4f}, must be {FOUND_SHARE_LEAST} at least")
    return found

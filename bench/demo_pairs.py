"""What the demo shows of pairs: what requests were served of them, and what became of those that
were computed behind and before the requests.

Invariant: shares are of counts that the server gave in one answer, so that they fit each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from predawn.bench.report import figure
from predawn.server.metrics import UNREAD_OUTCOMES

BAR = 24
"""Letters of a whole bar."""

_LEVELS = {
    "direct": "pairs, exact",
    "user_mean": "filled: user's mean",
    "recent": "filled: user's last",
    "neighbour": "filled: neighbours",
    "default": "pairs, default",
}


Row = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class PairAccount:
    """One pair model's account of itself (GET /info). sources: pairs asked for, by what was served;
    outcomes: computed pairs that have ended, by how; of the server's `metrics.speculation`."""

    model: str
    sources: Mapping[str, int]
    issued: int = 0
    outcomes: Mapping[str, int] | None = None
    unread: int = 0
    waiting: int = 0
    waste: float = 0.0
    lead_p50_ms: float = 0.0
    age_at_use_p50_ms: float = 0.0
    tokens: float = 0.0
    price: float = 0.0
    throttle: float = 1.0
    sentence: str = ""

    @property
    def asked(self) -> int:
        """Pairs that requests have asked for."""
        return sum(self.sources.values())

    def share(self, *levels: str) -> float:
        """Of the pairs asked for, those served from `levels`."""
        return sum(self.sources.get(each, 0) for each in levels) / max(1, self.asked)

    def ended(self, *outcomes: str) -> int:
        """Computed pairs that have ended so."""
        return sum((self.outcomes or {}).get(each, 0) for each in outcomes)

    def summary(self) -> dict[str, Any]:
        """For the JSON of `predawn demo`; sources add up to the pairs asked for."""
        return {
            "asked": self.asked,
            "sources": dict(self.sources),
            "coverage_exact": self.share("direct"),
            "coverage_with_fills": 1 - self.share("default") if self.asked else 0.0,
            "issued": self.issued,
            "outcomes": dict(self.outcomes or {}),
            "unread": self.unread,
            "waste": self.waste,
            "lead_p50_ms": self.lead_p50_ms,
            "age_at_use_p50_ms": self.age_at_use_p50_ms,
            "tokens": self.tokens,
            "price": self.price,
            "throttle": self.throttle,
            "sentence": self.sentence,
        }

    def line(self) -> str:
        """In a few words, for logs."""
        fills = self.share("user_mean", "recent", "neighbour")
        return (
            f"pairs of {self.model}: exact {self.share('direct'):.0%}, filled {fills:.0%}, "
            f"{self.issued:,} computed, {self.ended('used'):,} used"
        )

    def rows(self) -> list[list[Row]]:
        """What was served, and what was computed for it: rows of the demo's table."""
        served = [
            (f"{label}", f"{count:,}", bar(count, self.asked))
            for level, label in _LEVELS.items()
            if (count := self.sources.get(level, 0)) or level in ("direct", "default")
        ]
        return [served, self._computed()]

    def _computed(self) -> list[Row]:
        used, unread = self.ended("used"), self.ended(*UNREAD_OUTCOMES)
        lead, age = self.lead_p50_ms / 1e3, self.age_at_use_p50_ms / 1e3
        return [
            (
                "pairs computed",
                f"{self.issued:,}",
                f"{self.issued / max(1, self.asked):.2f} per asked",
            ),
            ("used", f"{used:,}", bar(used, used + unread)),
            ("wasted", f"{unread:,}", f"{self.unread:,} more not read yet"),
            ("lead of used ones", f"{figure(lead)} s", f"median; {figure(age)} s old when used"),
            ("price", f"{self.price:.3f}", self._limits()),
        ]

    def _limits(self) -> str:
        """What keeps it from computing more."""
        if self.throttle < 1:
            return f"throttled to {self.throttle:.0%}: {self.sentence}"[: 2 * BAR]
        return f"least chance worth it; {self.waiting:,} wait"


def accounts_of(metrics: Mapping[str, Any]) -> dict[str, PairAccount]:
    """By pair model, out of the metrics in a body of GET /info."""
    speculation: Mapping[str, Any] = metrics.get("speculation", {})
    waiting: Mapping[str, int] = metrics.get("pairs_waiting", {})
    return {
        name: _account(name, pairs["sources"], speculation.get(name), waiting.get(name, 0))
        for name, pairs in metrics.get("pairs", {}).items()
    }


def _account(
    model: str, sources: Mapping[str, int], ahead: Mapping[str, Any] | None, waiting: int
) -> PairAccount:
    if ahead is None:
        return PairAccount(model, sources, waiting=waiting)
    return PairAccount(
        model,
        sources,
        issued=ahead["issued"],
        outcomes=ahead["outcomes"],
        unread=ahead["unread"],
        waiting=waiting,
        waste=ahead["waste"],
        lead_p50_ms=ahead["lead_ms"]["p50"],
        age_at_use_p50_ms=ahead["age_at_use_ms"]["p50"],
        tokens=ahead["tokens"],
        price=ahead["price"],
        throttle=ahead["throttle"],
        sentence=ahead["sentence"],
    )


def bar(part: int, whole: int) -> str:
    """The share of `part` in `whole` as a picture and a number."""
    share = part / whole if whole else 0.0
    return f"{'█' * round(share * BAR):<{BAR}} {share:.0%}"

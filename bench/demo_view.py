"""What the demo shows: counts of its own replies, and the server's account of itself."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from predawn.bench import demo_pairs
from predawn.bench.demo_pairs import BAR, PairAccount, bar
from predawn.bench.demo_traffic import EVENTS_TAG
from predawn.bench.load import Answer
from predawn.bench.recorder import sources_of
from predawn.bench.report import figure
from predawn.csrc._core import Histogram

_OK = 200
_RECENT = 1000
_WHOLE = 34  # rows of a picture with lines and caption


@dataclass(slots=True)
class Tally:
    """A sink that adds up: bounded memory however long it runs. Latencies from intended times."""

    requests: int = 0  # to /v1/rank, answered with 200
    events: int = 0  # bodies to /v1/events, acknowledged
    errors: Counter[str] = field(default_factory=Counter[str])
    sources: Counter[str] = field(default_factory=Counter[str])
    latency_ns: Histogram = field(default_factory=Histogram)
    recent_ns: "deque[int]" = field(default_factory=lambda: deque(maxlen=_RECENT))

    def __call__(self, answer: Answer) -> None:
        if answer.status != _OK:
            where = "events" if answer.tag == EVENTS_TAG else "rank"
            self.errors[f"{where} {answer.status}"] += 1
        elif answer.tag == EVENTS_TAG:
            self.events += 1
        else:
            self._ranked(answer)

    def _ranked(self, answer: Answer) -> None:
        took_ns = answer.received_ns - answer.intended_ns
        self.requests += 1
        self.latency_ns.record(took_ns)
        self.recent_ns.append(took_ns)
        self.sources.update(sources_of(answer.body))

    def quantile_ms(self, q: float) -> float:
        """Of all requests; 0 before the first."""
        return self.latency_ns.quantile(q) / 1e6 if self.requests else 0.0

    def recent_ms(self, q: float) -> float:
        """Of the newest requests; 0 before the first."""
        return float(np.quantile(list(self.recent_ns), q)) / 1e6 if self.recent_ns else 0.0


@dataclass(frozen=True, slots=True)
class Account:
    """What the server says of itself (GET /info)."""

    inferences: int = 0
    age_p50_ms: float = 0.0
    queued: int = 0
    events: int = 0
    store_entries: int = 0
    pairs: Mapping[str, PairAccount] = field(default_factory=dict[str, PairAccount])


def account_of(info: dict[str, Any]) -> Account:
    """The account in a body of GET /info; ages of the first model."""
    metrics = info["metrics"]
    models: dict[str, Any] = metrics["models"]
    return Account(
        inferences=sum(model["inferences"] for model in models.values()),
        age_p50_ms=next(iter(models.values()))["age_ms"]["p50"],
        queued=sum(metrics["queue_depth"].values()),
        events=metrics["events"],
        store_entries=sum(table.get("entries", 0) for table in metrics["store"].values()),
        pairs=demo_pairs.accounts_of(metrics),
    )


def summary(tally: Tally, account: Account, seconds: float) -> dict[str, Any]:
    """The JSON of `predawn demo`. inferences_saved: requests less inferences, since computing for
    every request is what a server without a store does; sources add up to requests, those of pairs
    to the pairs asked for."""
    return {
        "requests": tally.requests,
        "errors": sum(tally.errors.values()),
        "rps": tally.requests / seconds if seconds else 0.0,
        "p50_ms": tally.quantile_ms(0.5),
        "p99_ms": tally.quantile_ms(0.99),
        "sources": dict(tally.sources),
        "inferences": account.inferences,
        "inferences_saved": tally.requests - account.inferences,
        "events": account.events,
        "pairs": {name: pairs.summary() for name, pairs in account.pairs.items()},
        "seconds": seconds,
    }


def line(tally: Tally, account: Account, seconds: float) -> str:
    """The demo after `seconds` in one line, for logs."""
    sources = ", ".join(f"{name} {count:,}" for name, count in tally.sources.most_common())
    pairs = "".join(f"; {each.line()}" for each in account.pairs.values())
    return (
        f"{seconds:,.0f} s: {tally.requests:,} requests, {sum(tally.errors.values())} errors, "
        f"p50 {tally.recent_ms(0.5):.2f} ms, p99 {tally.recent_ms(0.99):.2f} ms, {sources}{pairs}"
    )


def table(
    tally: Tally, account: Account, seconds: float, caption: str, rows: int | None = None
) -> Table:
    """One picture of the demo after `seconds`; rows: that there is room for, if it matters."""
    found = Table(
        title=f"predawn, live for {seconds:,.0f} s",
        caption=caption if rows is None or rows >= _WHOLE else None,
        title_justify="left",
        caption_justify="left",
        show_header=False,
    )
    found.add_column(no_wrap=True)
    found.add_column(justify="right", no_wrap=True, min_width=10)
    found.add_column(no_wrap=True, min_width=BAR + 6)
    rate = tally.requests / seconds if seconds else 0.0
    found.add_row("requests", f"{tally.requests:,}", f"{rate:,.0f} per second")
    found.add_row("errors", f"{sum(tally.errors.values()):,}", _listed(tally.errors))
    found.add_row("p50", f"{tally.recent_ms(0.5):.2f} ms", f"{tally.quantile_ms(0.5):.2f} overall")
    found.add_row(
        "p99", f"{tally.recent_ms(0.99):.2f} ms", f"{tally.quantile_ms(0.99):.2f} overall"
    )
    found.add_section()
    for source, count in tally.sources.most_common():
        found.add_row(f"served {source}", f"{count:,}", bar(count, tally.sources.total()))
    found.add_section()
    saved = tally.requests - account.inferences
    found.add_row("inferences", f"{account.inferences:,}", f"{account.queued:,} users queued")
    found.add_row("inferences saved", f"{saved:,}", bar(max(saved, 0), tally.requests))
    found.add_row("age of embeddings", f"{figure(account.age_p50_ms / 1e3)} s", "median, as served")
    found.add_row(
        "in the store", f"{account.store_entries:,}", f"{account.events:,} events received"
    )
    for pairs in account.pairs.values():
        for part in pairs.rows():
            found.add_section()
            for row in part:
                found.add_row(*row)
    if found.caption is None:  # hardly room for the figures
        for line in found.rows:
            line.end_section = False
    return found


def _listed(errors: Counter[str]) -> str:
    return ", ".join(f"{what}: {count}" for what, count in errors.most_common(3))

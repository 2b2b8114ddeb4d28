"""A server's own account of itself: its Prometheus page as numbers to add up."""

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True, slots=True)
class Scrape:
    """Samples of one scrape: (name, labels, value)."""

    samples: tuple[tuple[str, Mapping[str, str], float], ...]

    def total(self, name: str, **labels: str) -> float:
        """Sum of the samples of `name` that have all of `labels`; 0 when there is none."""
        return sum(
            v for n, found, v in self.samples if n == name and labels.items() <= found.items()
        )

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums of the samples of `name` by their value of `label`."""
        sums: dict[str, float] = {}
        for found, labels, value in self.samples:
            if found == name and label in labels:
                sums[labels[label]] = sums.get(labels[label], 0.0) + value
        return sums

    def quantile(self, name: str, q: float) -> float:
        """Upper bound of the histogram bucket in which quantile q lies; NaN when empty."""
        buckets = self.by(f"{name}_bucket", "le")
        bounds = sorted((float(bound), count) for bound, count in buckets.items())
        if not bounds or bounds[-1][1] == 0:
            return float("nan")
        wanted = q * bounds[-1][1]
        return next(bound for bound, count in bounds if count >= wanted)


def parse(text: bytes) -> Scrape:
    """The samples of a Prometheus text page."""
    families = text_string_to_metric_families(text.decode())
    samples = [s for family in families for s in family.samples]
    return Scrape(tuple((s.name, s.labels, float(s.value)) for s in samples))

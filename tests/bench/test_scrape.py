"""Prometheus pages add up by label."""

import math

from predawn.bench import scrape

PAGE = b"""# HELP predawn_inferences_total x
# TYPE predawn_inferences_total counter
predawn_inferences_total{lane="wait",model="a"} 3
predawn_inferences_total{lane="refresh",model="a"} 4
predawn_inferences_total{lane="refresh",model="b"} 5
# HELP predawn_embedding_age_seconds x
# TYPE predawn_embedding_age_seconds histogram
predawn_embedding_age_seconds_bucket{le="1.0"} 1
predawn_embedding_age_seconds_bucket{le="10.0"} 9
predawn_embedding_age_seconds_bucket{le="+Inf"} 10
predawn_embedding_age_seconds_count 10
predawn_embedding_age_seconds_sum 60
"""


def test_totals_respect_labels() -> None:
    page = scrape.parse(PAGE)
    assert page.total("predawn_inferences_total") == 12
    assert page.total("predawn_inferences_total", model="a") == 7
    assert page.total("predawn_inferences_total", model="a", lane="wait") == 3
    assert page.total("unknown") == 0


def test_by_groups_and_quantile_reads_buckets() -> None:
    page = scrape.parse(PAGE)
    assert page.by("predawn_inferences_total", "lane") == {"wait": 3, "refresh": 9}
    assert page.quantile("predawn_embedding_age_seconds", 0.5) == 10.0
    assert math.isnan(page.quantile("unknown", 0.5))

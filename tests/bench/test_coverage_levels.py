import numpy as np
import pytest
from pair_cases import asked
from replay_cases import day

from predawn.bench.coverage_levels import LEVELS, filled, requests_back
from predawn.server.request import Source

EXPECTED = (Source.USER_MEAN, Source.RECENT, Source.NEIGHBOUR, Source.NEIGHBOUR)


@pytest.mark.parametrize("at", range(len(LEVELS)), ids=[level.name for level in LEVELS])
def test_every_candidate_is_read_as_if_it_were_absent(at: int) -> None:
    source, trace = EXPECTED[at], day().slice(0, 150)
    found = filled(trace, LEVELS[at], budget=1.0)
    sources = found.served.sources
    assert set(np.unique(sources).tolist()) <= {source, Source.DEFAULT}
    assert (sources == source).mean() > 0.02
    assert not found.served.rows[sources == Source.DEFAULT].any()
    assert found.served.rows[sources == source].any(axis=1).mean() > 0.9
    assert len(found.back) and (found.back >= 0).all()


def test_requests_back_are_counted_among_the_users_own() -> None:
    asks = asked([(0, 1, [5]), (10, 2, [5]), (20, 1, [6]), (30, 1, [5, 6]), (40, 2, [5])])
    rows, ages_ms = np.array([3, 3, 4, 3, 5, 0]), np.array([0, 9, 10, 30, 35, 0])
    assert requests_back(asks, rows, ages_ms).tolist() == [0, 1, 1, 2, 1, 0]

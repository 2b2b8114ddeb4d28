import numpy as np
import pytest
from replay_cases import day

from predawn.bench.coverage_levels import LEVELS, filled, held_out
from predawn.server.request import Source

EXPECTED = (Source.USER_MEAN, Source.RECENT, Source.NEIGHBOUR, Source.NEIGHBOUR)


@pytest.mark.parametrize("at", range(len(LEVELS)), ids=[level.name for level in LEVELS])
def test_every_candidate_is_read_as_if_it_were_absent(at: int) -> None:
    source, trace = EXPECTED[at], day().slice(0, 150)
    found = filled(trace, LEVELS[at], budget=1.0)
    sources, rows = found.absent.sources, found.absent.rows
    assert set(np.unique(sources).tolist()) <= {source, Source.DEFAULT}
    assert (sources == source).mean() > 0.02
    assert not rows[sources == Source.DEFAULT].any()
    assert rows[sources == source].any(axis=1).mean() > 0.9
    assert (found.served.sources == Source.DIRECT).any()


def test_a_quarter_of_all_pairs_is_held_out_whatever_the_user_and_the_item() -> None:
    users, items = np.meshgrid(np.arange(200, dtype=np.uint64), np.arange(300, dtype=np.uint64))
    held = held_out(users.ravel(), items.ravel()).reshape(users.shape)
    assert held.mean() == pytest.approx(0.25, abs=0.01)
    assert np.abs(held.mean(axis=0) - 0.25).max() < 0.12 > np.abs(held.mean(axis=1) - 0.25).max()

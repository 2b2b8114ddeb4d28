"""k-means finds clusters, and its numbers keep their meaning."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.request import F32
from predawn.server.user_clusters import fit_clusters


def users_around(centres: Any, each: int, seed: int, spread: float = 0.1) -> F32:
    """`each` vectors around each centre, centre by centre."""
    rng = np.random.default_rng(seed)
    centres = np.asarray(centres, dtype=np.float64)
    noise = rng.normal(size=(each * len(centres), centres.shape[1])) * spread
    around: F32 = (centres.repeat(each, axis=0) + noise).astype(np.float32)
    return around


CORNERS = ((0.0, 0.0), (0.0, 10.0), (10.0, 0.0), (10.0, 10.0))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_finds_clusters_that_are_far_apart(seed: int) -> None:
    sample = users_around(CORNERS, 30, seed)
    clusters = fit_clusters(sample, 4, np.random.default_rng(seed))
    names = np.array([clusters.nearest(each) for each in sample]).reshape(4, 30)
    assert (names == names[:, :1]).all()
    assert len(set(names[:, 0].tolist())) == 4


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9))
def test_every_vector_is_of_its_nearest_centre(seed: int, k: int) -> None:
    sample = np.random.default_rng(seed).normal(size=(60, 3)).astype(np.float32)
    clusters = fit_clusters(sample, k, np.random.default_rng(seed))
    for vector in sample:
        distances = ((clusters.centres - vector) ** 2).sum(axis=1)
        mine = clusters.names.tolist().index(clusters.nearest(vector))
        assert distances[mine] <= distances.min() + 1e-4


def test_clusters_keep_their_names_as_they_move() -> None:
    rng = np.random.default_rng(0)
    before = fit_clusters(users_around(CORNERS, 30, 0), 4, rng)
    moved = np.array(CORNERS) + 2
    after = fit_clusters(users_around(moved, 30, 1), 4, rng, before)
    for old, new in zip(CORNERS, moved.tolist(), strict=True):
        at_old, at_new = np.array(old, np.float32), np.array(new, np.float32)
        assert before.nearest(at_old) == after.nearest(at_new)


def test_a_cluster_that_died_starts_anew_under_a_name_never_used() -> None:
    rng = np.random.default_rng(0)
    before = fit_clusters(users_around(CORNERS, 30, 0), 4, rng)
    left = users_around((*CORNERS[:3], (-30.0, 5.0)), 30, 1)
    dead = before.nearest(np.array(CORNERS[3], np.float32))
    without = before.centres[before.names != dead]
    after = fit_clusters(left[left[:, 0] > -1], 4, rng, before)
    assert dead not in after.names.tolist()
    assert after.names.max() > before.names.max()
    assert len(without) == 3
    assert len(set(after.names.tolist())) == 4


def test_more_users_make_more_clusters_and_the_old_ones_stay() -> None:
    rng = np.random.default_rng(0)
    before = fit_clusters(users_around(CORNERS[:2], 2, 0), 4, rng)
    assert len(before.names) == 2
    after = fit_clusters(users_around(CORNERS, 30, 1), 4, rng, before)
    assert len(after.names) == 4
    assert after.names[:2].tolist() == before.names.tolist()


def test_the_same_seed_gives_the_same_clusters() -> None:
    sample = np.random.default_rng(3).normal(size=(200, 5)).astype(np.float32)
    one, other = (fit_clusters(sample, 16, np.random.default_rng(7)) for _ in range(2))
    assert one.centres.tobytes() == other.centres.tobytes()


def test_users_that_are_all_alike_are_no_trouble() -> None:
    sample = np.full((20, 2), 3, dtype=np.float32)
    clusters = fit_clusters(sample, 4, np.random.default_rng(0))
    assert np.isfinite(clusters.centres).all()
    assert len(set(clusters.names.tolist())) == 4

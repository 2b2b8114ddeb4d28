"""Damaged bodies come from their seed, and are damaged."""

from collections import Counter

from predawn.bench.fuzz_bodies import EVENTS, RANK, USERS, damaged, requests


def test_the_seed_decides() -> None:
    assert list(requests(300, 1)) == list(requests(300, 1))
    assert list(requests(300, 1)) != list(requests(300, 2))


def test_bodies_are_damaged_and_stay_small() -> None:
    bodies = list(damaged(RANK, 1000, seed=3))
    assert len(set(bodies)) > 800
    assert sum(body in RANK for body in bodies) < 100
    assert max(map(len, bodies)) < 400
    assert any(len(body) < 10 for body in bodies)


def test_every_route_has_its_share() -> None:
    paths = Counter(path for path, _ in requests(2000, 5))
    assert set(paths) == {"/v1/rank", "/v1/events", "/v1/hint", "/v1/invalidate"}
    assert paths["/v1/rank"] > 1000


def test_the_undamaged_bodies_are_valid() -> None:
    from predawn.csrc._codec import decode_events, decode_rank
    from predawn.server.http.admin import members, user_list

    assert all(decode_rank(body, (), 10).count for body in RANK)
    assert all(decode_events(body, ("shown", "clicked"), (), 10).count for body in EVENTS)
    assert all(user_list(members(body, ("users",))["users"], 10) for body in USERS)

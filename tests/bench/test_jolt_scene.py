"""Who is served what around a swap: a request feels it only through recomputes behind others."""

from collections import defaultdict

import numpy as np
import pytest
from model_cases import small_trace

from predawn.bench.jolt_scene import Policy, Scene
from predawn.server.models.contract import UserModel
from predawn.server.models.ranker import Ranker
from predawn.server.models.training_metrics import normalised_entropy
from predawn.server.request import F32, RankBatch, UserBatch
from predawn.server.stabilise import compress

TRACE = small_trace(300, seed=4)
START_MS, SWAP_MS, END_MS = (int(TRACE.t_ms[at]) for at in (60, 150, 290))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(TRACE, START_MS, SWAP_MS, END_MS, length=32)


def raws(scene: Scene) -> tuple[F32, F32]:
    rng = np.random.default_rng(1)
    old, new = rng.standard_normal((2, len(scene.requests), 6)).astype(np.float32)
    return old, new


POLICIES = [
    Policy("none"),
    Policy("mean of 3", average_over=3),
    Policy("exponential", average_weight=0.25),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_requests_are_served_as_a_loop_over_each_user_says(scene: Scene, policy: Policy) -> None:
    old, new = raws(scene)
    got = scene.served(old, new, policy)
    landed: dict[int, list[F32]] = defaultdict(list)
    kept: dict[int, F32] = {}
    last_ms: dict[int, int] = {}
    numbers: dict[int, int] = defaultdict(int)
    for at, request in enumerate(scene.requests.tolist()):
        user, now_ms = int(TRACE.users[request]), int(TRACE.t_ms[request])
        if user not in last_ms:
            assert not got[at].any() and scene.previous[at] == -1
        else:
            is_new = last_ms[user] >= SWAP_MS
            numbers[user] += is_new
            landed[user].append((new if is_new else old)[at])
            kept[user] = expected(policy, landed[user], kept.get(user))
            np.testing.assert_array_equal(got[at], kept[user])
        assert scene.number[at] == numbers[user]
        assert scene.seasoned[at] == (len(landed[user]) > numbers[user])
        last_ms[user] = now_ms


def expected(policy: Policy, landed: list[F32], before: F32 | None) -> F32:
    if policy.average_weight is not None and before is not None:
        moved: F32 = landed[-1] - before
        moved *= np.float32(policy.average_weight)
        return stored(before + moved)
    parts = [stored(row) for row in landed[-policy.average_over : -1]]
    total: F32 = landed[-1].astype(np.float32)
    for part in reversed(parts):  # newest first, as the store sums
        total += part
    total /= np.float32(1 + len(parts))
    return stored(total)


def stored(row: F32) -> F32:
    rows: F32 = compress(row.astype(np.float32)[None], "fp16")
    return np.asarray(rows[0], dtype=np.float32)


def test_who_is_aligned_on_was_seen_last_before_the_swap(scene: Scene) -> None:
    at = scene.latest_before(5)
    assert len(at) == 5 and (np.diff(at) < 0).all() and (scene.number[at] == 0).all()
    users = TRACE.users[scene.requests]
    for position in at:
        later = np.flatnonzero((users == users[position]) & (scene.number == 0))
        assert later.max() == position


class Newest:
    """Embeds with the newest item of the history: says whether it has been told in time."""

    dim = 1

    def embed(self, batch: UserBatch) -> F32:
        return batch.items[:, :1].astype(np.float32)


def test_an_embedding_knows_what_came_strictly_before_the_request(scene: Scene) -> None:
    model: UserModel = Newest()
    rows = scene.raw(model)[:, 0]
    for at, request in enumerate(scene.requests.tolist()):
        earlier = np.flatnonzero(
            (TRACE.users == TRACE.users[request]) & (TRACE.t_ms < TRACE.t_ms[request])
        )
        items = TRACE.items[TRACE.offsets[earlier[-1]] : TRACE.offsets[earlier[-1] + 1]]
        assert rows[at] == items[-1]


class Constant:
    """Scores by the first value of the user."""

    tasks, item_features, inline = ("click",), (), True

    def score(self, batch: RankBatch) -> F32:
        return np.repeat(batch.user[:, :1], np.diff(batch.offsets), axis=0)


def test_losses_are_the_normalised_entropy_of_the_scores(scene: Scene) -> None:
    ranker: Ranker | Constant = Constant()
    served = np.random.default_rng(2).uniform(0.1, 0.9, (len(scene.requests), 3))
    at = np.arange(10, 60)
    found = scene.losses(ranker, at, served.astype(np.float32))
    rows = [
        row
        for request in scene.requests[at]
        for row in range(TRACE.offsets[request], TRACE.offsets[request + 1])
    ]
    counts = np.diff(TRACE.offsets)[scene.requests[at]]
    scores = np.repeat(served[at, 0], counts).astype(np.float32)
    expected = normalised_entropy(TRACE.labels["click"][rows], scores)
    assert found.normalised == pytest.approx(expected, rel=1e-6)
    assert found.rows.tolist() == counts.tolist()

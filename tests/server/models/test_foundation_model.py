"""The served model: one user's result is that user's alone, and what is kept is as good as new."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from foundation_cases import (
    SHAPE,
    asked,
    foundation,
    one_user,
    pair_batch,
    some_pairs,
    true_embeddings,
)

from predawn.server.models.contract import SlicedPairModel
from predawn.server.models.foundation_layers import CpuLayers, DeviceLayers
from predawn.server.models.foundation_model import (
    FoundationModel,
    foundation_from_tensors,
    foundation_tensors,
)
from predawn.server.models.foundation_pages import PoolFull
from predawn.server.models.foundation_shape import named_foundation
from predawn.server.request import I64, PairBatch, UserBatch

COUNTS = [3, 0, 1, 17, 130, 5]


def cpu() -> FoundationModel:
    return FoundationModel(foundation(), pages=40)


def cpu_bf16() -> FoundationModel:
    return FoundationModel(
        foundation(), pages=40, layers=CpuLayers(foundation(), 40, torch.bfloat16, tile=64)
    )


def kernels() -> FoundationModel:
    layers = DeviceLayers(foundation(), 40, torch.float32, "cpu", tile=64)
    return FoundationModel(foundation(), pages=40, layers=layers)


def shares(batch: PairBatch, user: int) -> I64:
    return np.arange(batch.offsets[user], batch.offsets[user + 1])


def on_a_device() -> FoundationModel:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return FoundationModel(foundation(), "cuda", pages=40)


@pytest.mark.parametrize("made", [cpu, cpu_bf16, on_a_device])
def test_splitting_and_permuting_candidates_changes_no_bit(
    made: Callable[[], FoundationModel],
) -> None:
    batch = pair_batch(COUNTS)
    whole = made().embed_pairs(batch)
    rng = np.random.default_rng(0)
    model = made()
    for user in (3, 4):
        order = rng.permutation(shares(batch, user))
        for some in (order, order[:7], order[7:8], order[8:]):
            if len(some):
                part = model.embed_pairs(some_pairs(batch, [user], [some]))
                np.testing.assert_array_equal(part, whole[some])


@pytest.mark.parametrize("made", [cpu, cpu_bf16, kernels, on_a_device])
def test_other_users_of_the_batch_change_no_bit(made: Callable[[], FoundationModel]) -> None:
    batch = pair_batch(COUNTS)
    whole = made().embed_pairs(batch)
    for users in ([4], [5, 3], [0, 2, 3, 4], [5, 4, 3, 2, 1, 0]):
        rows = [shares(batch, user) for user in users]
        part = made().embed_pairs(some_pairs(batch, users, rows))
        np.testing.assert_array_equal(part, whole[np.concatenate(rows)])


def test_a_device_agrees_with_the_net_within_its_rounding() -> None:
    batch = pair_batch(COUNTS)
    error = on_a_device().embed_pairs(batch) - true_embeddings(foundation(), batch)
    assert np.sqrt(np.square(error).mean()) < 1.5e-2


def test_two_runs_are_bitwise_equal_and_the_second_encodes_nothing() -> None:
    batch, model = pair_batch(COUNTS), cpu()
    one = model.embed_pairs(batch)
    encoded = model.kept()["tokens_encoded"]
    assert encoded > 0
    np.testing.assert_array_equal(model.embed_pairs(batch), one)
    assert model.kept()["tokens_encoded"] == encoded
    assert model.kept()["tokens_extended"] == 0


def test_extending_by_ten_events_equals_encoding_256_anew() -> None:
    shape = named_foundation("small", types=5, attributes=2)
    net = foundation(shape)
    extended, anew = FoundationModel(net, pages=16), FoundationModel(net, pages=16)
    extended.encode(one_user(246, 300))
    batch = asked(one_user(256, 300), 20)
    got = extended.embed_pairs(batch)
    assert extended.kept()["tokens_extended"] == 10
    np.testing.assert_allclose(got, anew.embed_pairs(batch), atol=1e-5, rtol=0)
    assert anew.kept()["tokens_encoded"] == 256 and anew.kept()["tokens_extended"] == 0
    np.testing.assert_allclose(got, true_embeddings(net, batch), atol=2e-5, rtol=0)


@pytest.mark.parametrize("made", [cpu, kernels])
def test_a_life_of_events_stays_with_the_truth(made: Callable[[], FoundationModel]) -> None:
    """Appends, windows that move, late and changed events, an evicted user: always the net's."""
    model = made()
    rng = np.random.default_rng(2)
    for events in (0, 1, 2, 30, 63, 64, 65, 66, 90, 91, 92, 40, 150):
        users = one_user(events)
        if events == 91:
            users.items[0, 3] += np.uint64(1)
        if events == 92:
            model.encode(one_user(60, seed=9, user=1))
        batch = asked(users, int(rng.integers(1, 40)), events)
        truth = true_embeddings(foundation(), batch)
        np.testing.assert_allclose(model.embed_pairs(batch), truth, atol=1e-5, rtol=0)
    kept = model.kept()
    assert kept["tokens_extended"] > 0 and kept["tokens_reused"] > kept["tokens_extended"]


def test_a_small_pool_evicts_and_stays_right() -> None:
    model = FoundationModel(foundation(), pages=4)
    batch = pair_batch([4] * 12)
    truth = true_embeddings(foundation(), batch)
    for _ in range(2):
        np.testing.assert_allclose(model.embed_pairs(batch), truth, atol=1e-5, rtol=0)
    kept = model.kept()
    assert kept["users_evicted"] > 8 and kept["pages_used"] + kept["pages_free"] == 4
    with pytest.raises(ValueError, match="do not hold four"):
        FoundationModel(foundation(), pages=3)


def test_jobs_between_slices_do_not_disturb_each_other() -> None:
    """Nested, interleaved and dropped ones; some want the same users with other histories."""
    old, new = asked(one_user(50), 9), asked(one_user(58), 9)
    other = asked(one_user(58, seed=3), 9)
    model = cpu()
    expected = [cpu().embed_pairs(batch) for batch in (old, new, other)]
    jobs = [model.pair_slices(batch) for batch in (old, new, other, old, new)]
    dropped = model.pair_slices(pair_batch(COUNTS))
    next(dropped)
    found: dict[int, object] = {}
    while len(found) < len(jobs):
        for number, job in enumerate(jobs):
            if number not in found:
                try:
                    next(job)
                except StopIteration as done:
                    found[number] = done.value
    dropped.close()
    for number, right in enumerate([*expected, *expected[:2]]):
        got = found[number]
        assert isinstance(got, np.ndarray)
        np.testing.assert_allclose(got, right, atol=1e-5, rtol=0)
    for batch, right in zip((old, new, other), expected, strict=True):
        np.testing.assert_allclose(model.embed_pairs(batch), right, atol=1e-5, rtol=0)


def test_pinned_pages_are_refused_and_come_free_again() -> None:
    model = FoundationModel(foundation(), pages=4)
    batches = [asked(one_user(60, user=user), 2) for user in range(5)]
    jobs = [model.pair_slices(batch) for batch in batches]
    for job in jobs[:4]:
        next(job)
    with pytest.raises(PoolFull):
        next(jobs[4])
    for job in jobs[:4]:
        job.close()
    assert np.isfinite(model.embed_pairs(batches[4])).all()
    assert model.kept()["pages_used"] <= 4


def test_one_user_twice_in_a_batch_with_two_histories() -> None:
    users = [one_user(50), one_user(20)]
    both = UserBatch(
        *(
            np.concatenate([getattr(each, name) for each in users])
            for name in UserBatch.__dataclass_fields__
        )
    )
    items = np.arange(6, dtype=np.uint64)
    model, batch = cpu(), PairBatch(both, np.array([0, 3, 6]), items)
    truth = true_embeddings(foundation(), batch)
    np.testing.assert_allclose(model.embed_pairs(batch), truth, atol=1e-5, rtol=0)


def test_nothing_asked_is_nothing_computed() -> None:
    model = cpu()
    got = model.embed_pairs(pair_batch([0, 0, 0]))
    assert got.shape == (0, SHAPE.dim)
    assert model.kept()["tokens_encoded"] == 0


def test_slices_are_many_and_small() -> None:
    model = cpu()
    assert isinstance(model, SlicedPairModel)
    assert model.dim == SHAPE.dim
    steps = list(model.pair_slices(pair_batch(COUNTS)))
    assert len(steps) >= 2 * SHAPE.tap


def test_a_snapshot_gives_the_same_model_back() -> None:
    net, batch = foundation(seed=5), pair_batch(COUNTS)
    described = json.loads(json.dumps(SHAPE.describe()))
    tensors = {name: np.array(array) for name, array in foundation_tensors(net).items()}
    again = foundation_from_tensors(described, tensors)
    expected = FoundationModel(net).embed_pairs(batch)
    np.testing.assert_array_equal(again.embed_pairs(batch), expected)


def test_a_history_of_other_columns_is_refused() -> None:
    shape = named_foundation("tiny", types=3, attributes=2)
    with pytest.raises(ValueError, match="5 types"):
        FoundationModel(foundation(shape)).embed_pairs(pair_batch([2, 2]))

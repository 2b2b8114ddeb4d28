"""Tensors and buffers are read and written in place; what would not be is refused by name."""

import array
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from predawn.csrc._core import EmbeddingCache

DIM, N = 4, 3
KEYS = np.arange(2 * N, dtype=np.uint64).reshape(N, 2)
ROWS = np.arange(N * DIM, dtype=np.float32).reshape(N, DIM)


class Producer:
    """An object that offers nothing but DLPack's two methods, for what it wraps."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.wrapped.__dlpack_device__()
        return device

    def __dlpack__(self, *, max_version: tuple[int, int] | None = None) -> object:
        capsule: object = self.wrapped.__dlpack__(max_version=max_version)
        return capsule


class OldProducer(Producer):
    """As before versions were agreed upon."""

    def __dlpack__(self) -> object:  # type: ignore[override]
        capsule: object = self.wrapped.__dlpack__()
        return capsule


class Elsewhere(Producer):
    """Memory of a GPU, by what it says; asking for it would be wrong."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError


class Subclass(torch.Tensor):
    """A tensor with a Python class of its own."""


def store() -> EmbeddingCache:
    return EmbeddingCache.create(capacity=64, dim=DIM, dtype="fp32", huge_pages=False)


def filled() -> EmbeddingCache:
    cache = store()
    assert cache.put_many(KEYS, ROWS, 0, 0, 0) == N
    return cache


def read(cache: EmbeddingCache, out: Any) -> int:
    return cache.get_many(KEYS, 0, 0, out, np.empty(N, np.int64))


def subclass(rows: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(rows).as_subclass(Subclass)


SHARERS: list[Callable[[NDArray[np.float32]], Any]] = [
    torch.from_numpy,
    subclass,
    lambda rows: rows.data,
    Producer,
    OldProducer,
    lambda rows: Producer(torch.from_numpy(rows)),
    lambda rows: OldProducer(torch.from_numpy(rows)),
    lambda rows: rows.data.cast("B").cast("f", rows.shape),
]


@pytest.mark.parametrize("sharing", SHARERS)
def test_outputs_are_written_in_place(sharing: Callable[[NDArray[np.float32]], Any]) -> None:
    rows = np.zeros((N, DIM), np.float32)
    assert read(filled(), sharing(rows)) == N
    np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.parametrize("sharing", SHARERS)
def test_inputs_are_read_in_place(sharing: Callable[[NDArray[np.float32]], Any]) -> None:
    cache, out = store(), np.zeros_like(ROWS)
    assert cache.put_many(KEYS, sharing(ROWS.copy()), 0, 0, 0) == N
    assert read(cache, out) == N
    np.testing.assert_array_equal(out, ROWS)


def test_every_argument_may_be_a_tensor() -> None:
    cache = filled()
    keys = torch.from_numpy(KEYS.copy())
    out, ages = torch.zeros(N, DIM), torch.zeros(N, dtype=torch.int64)
    snapshots = torch.ones(N, dtype=torch.uint32)
    states = torch.zeros(N, dtype=torch.uint8)
    many: Any = (keys, 5, 9, out, ages, snapshots, 9, states)
    assert cache.get_many(*many) == N
    np.testing.assert_array_equal(out.numpy(), ROWS)
    assert ages.tolist() == [5] * N and snapshots.tolist() == [0] * N and len(set(states)) > 0
    assert cache.touch_many(keys) == N  # type: ignore[arg-type]
    assert cache.invalidate_many(keys) == N  # type: ignore[arg-type]


def test_a_slice_of_rows_is_written_where_it_lies() -> None:
    whole = torch.zeros(N + 2, DIM)
    assert read(filled(), whole[1:-1]) == N
    np.testing.assert_array_equal(whole[1:-1].numpy(), ROWS)
    assert whole[0].sum() == whole[-1].sum() == 0


def test_pinned_tensors_are_written_in_place() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    out = torch.zeros(N, DIM).pin_memory()
    assert read(filled(), out) == N
    np.testing.assert_array_equal(out.numpy(), ROWS)
    with pytest.raises(ValueError, match=r"^out: must be in CPU memory, got .* \(CUDA\)"):
        read(filled(), out.cuda())


def frozen() -> NDArray[np.float32]:
    rows = np.zeros((N, DIM), np.float32)
    rows.flags.writeable = False
    return rows


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        (torch.zeros(N, DIM, dtype=torch.float64), "expected dtype float32, got float64"),
        (torch.zeros(N, DIM, dtype=torch.float16), "expected dtype float32, got float16"),
        (torch.zeros(N, DIM, dtype=torch.bfloat16), "expected dtype float32, got bfloat16"),
        (torch.zeros(N, DIM, dtype=torch.int32), "expected dtype float32, got int32"),
        (torch.zeros(N, DIM, dtype=torch.bool), "expected dtype float32, got bool"),
        (torch.zeros(N, DIM, dtype=torch.complex64), "expected dtype float32, got complex"),
        (torch.zeros(DIM, N).t(), "must be C-contiguous and aligned"),
        (torch.zeros(N, 2 * DIM)[:, ::2], "must be C-contiguous and aligned"),
        (torch.zeros(N, 2 * DIM)[:, :DIM], "must be C-contiguous and aligned"),
        (torch.zeros(N * DIM), r"expected 2 dimension\(s\), got shape \(12\)"),
        (torch.zeros(()), r"expected 2 dimension\(s\), got shape \(\)"),
        (torch.zeros(1, 2, 3), r"expected 2 dimension\(s\), got shape \(1, 2, 3\)"),
        (torch.zeros(N + 1, DIM), r"expected 3 rows \(one per key\), got 4"),
        (torch.zeros(N, DIM, requires_grad=True), r".*pass tensor.detach\(\)"),
        (torch.nn.Parameter(torch.zeros(N, DIM)), r".*pass tensor.detach\(\)"),
        (Producer(torch.zeros(N, DIM, requires_grad=True)), ".*require gradient"),
        (torch.zeros(N, DIM, device="meta"), ".*meta"),
        (torch.zeros(N, DIM).to_sparse(), ""),
        (Producer(frozen()), "must be writeable"),
        (frozen().data, "must be writeable"),
        (bytes(N * DIM * 4), "must be writeable"),
        (bytearray(N * DIM * 4), "expected dtype float32, got uint8"),
        (array.array("d", [0] * N), "expected dtype float32, got float64"),
        (Elsewhere(None), r"must be in CPU memory, got a tensor on a device of type 2 \(CUDA\)"),
    ],
)
def test_what_cannot_be_written_in_place_is_refused(out: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^out: {reason}"):
        read(filled(), out)


def test_an_error_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^out: ") as raised:
        read(filled(), torch.zeros(N, DIM, device="meta"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_keys_of_another_type_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=r"^keys: expected dtype uint64, got"):
        store().touch_many(torch.zeros(N, 2, dtype=dtype))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [[[0, 0]], None, "keys", 5])
def test_what_is_no_array_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^keys: expected a numpy array, a CPU tensor or a buffer"):
        store().touch_many(wrong)


def test_memory_that_only_a_capsule_holds_lasts_for_the_call() -> None:
    class Temporary(Producer):
        def __dlpack__(self, **_: object) -> object:
            gc.collect()
            return torch.from_numpy(ROWS.copy()).__dlpack__()

    cache, out = store(), np.zeros_like(ROWS)
    assert cache.put_many(KEYS, Temporary(ROWS), 0, 0, 0) == N  # type: ignore[arg-type]
    assert read(cache, out) == N
    np.testing.assert_array_equal(out, ROWS)


def test_a_buffer_is_given_back_after_the_call() -> None:
    memory = bytearray(ROWS.tobytes())
    cache = store()
    view = memoryview(memory).cast("f", (N, DIM))
    assert cache.put_many(KEYS, view, 0, 0, 0) == N  # type: ignore[arg-type]
    view.release()
    memory.clear()  # a BufferError while anybody holds it

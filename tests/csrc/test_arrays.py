"""Wrong arguments are refused with an error that names them, and nothing is changed."""

from typing import Any

import numpy as np
import pytest

from predawn.csrc._core import STRING, EmbeddingCache

DIM, PARTS, N = 3, 2, 4


def store() -> EmbeddingCache:
    return EmbeddingCache.create(capacity=32, dim=DIM, parts=PARTS)


def get_arguments() -> dict[str, Any]:
    return {
        "keys": np.zeros((N, 2), np.uint64),
        "now_ms": 0,
        "max_age_ms": 0,
        "out": np.zeros((N, DIM), np.float32),
        "ages": np.zeros(N, np.int64),
        "snapshots": np.zeros(N, np.uint32),
    }


def put_arguments() -> dict[str, Any]:
    rows = np.ones((N, DIM * PARTS), np.float32)
    keys = np.arange(2 * N, dtype=np.uint64).reshape(N, 2)
    return {"keys": keys, "rows": rows, "now_ms": 0, "snapshot": 0, "origin": 0}


def scan_arguments() -> dict[str, Any]:
    return {
        "cursor": 0,
        "keys": np.zeros((N, 2), np.uint64),
        "written_at_ms": np.zeros(N, np.int64),
        "snapshots": np.zeros(N, np.uint32),
        "origins": np.zeros(N, np.uint8),
    }


def frozen(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


def unaligned() -> np.ndarray[Any, Any]:
    return np.frombuffer(bytearray(N * 16 + 1), np.uint64, count=2 * N, offset=1).reshape(N, 2)


@pytest.mark.parametrize(
    ("argument", "value", "reason"),
    [
        ("keys", np.zeros((N, 2), np.int64), "expected dtype uint64, got int64"),
        ("keys", np.zeros((N, 2), ">u8"), "expected dtype uint64, got >u8"),
        ("keys", np.zeros(N, np.uint64), r"expected 2 dimension\(s\), got shape \(4\)"),
        ("keys", np.zeros((N, 3), np.uint64), r"expected shape \[n, 2\], got \(4, 3\)"),
        ("keys", np.zeros((N, 4), np.uint64)[:, ::2], "must be C-contiguous and aligned"),
        ("keys", np.zeros((2, N), np.uint64).T, "must be C-contiguous and aligned"),
        ("keys", unaligned(), "must be C-contiguous and aligned"),
        ("out", np.zeros((N, DIM)), "expected dtype float32, got float64"),
        ("out", np.zeros((N + 1, DIM), np.float32), r"expected 4 rows \(one per key\), got 5"),
        ("out", np.zeros((N, 4), np.float32), r"expected 3 \(dim\) or 6 \(parts \* dim\) col.* 4"),
        ("out", np.zeros((N, 2 * DIM), np.float32)[:, :DIM], "must be C-contiguous"),
        ("out", frozen(np.zeros((N, DIM), np.float32)), "must be writeable"),
        ("ages", np.zeros(N, np.int32), "expected dtype int64, got int32"),
        ("ages", np.zeros(N - 1, np.int64), r"expected length 4 \(one per key\), got 3"),
        ("ages", frozen(np.zeros(N, np.int64)), "must be writeable"),
        ("snapshots", np.zeros(N, np.int64), "expected dtype uint32, got int64"),
        ("snapshots", np.zeros(0, np.uint32), "expected length 4"),
        ("max_age_ms", -1, "expected 0 or more, got -1"),
    ],
)
def test_get_many_names_what_is_wrong(argument: str, value: object, reason: str) -> None:
    table = store()
    with pytest.raises(ValueError, match=f"^{argument}: {reason}"):
        table.get_many(**get_arguments() | {argument: value})
    assert table.stats()["misses"] == 0


@pytest.mark.parametrize(
    ("argument", "value", "reason"),
    [
        ("keys", np.zeros((N, 2), np.int64), "expected dtype uint64"),
        ("rows", np.zeros((N, DIM), np.float32), r"expected shape \[4, 6\] .* got \(4, 3\)"),
        ("rows", np.zeros((N - 1, DIM * PARTS), np.float32), r"expected shape \[4, 6\]"),
        ("rows", np.zeros((N, DIM * PARTS), np.float16), "expected dtype float32, got float16"),
        ("rows", np.zeros((DIM * PARTS, N), np.float32).T, "must be C-contiguous"),
        ("snapshot", -1, "expected 0 to 4294967295, got -1"),
        ("snapshot", 2**32, "expected 0 to 4294967295, got 4294967296"),
        ("origin", 256, "expected 0 to 255, got 256"),
    ],
)
def test_put_many_names_what_is_wrong_and_writes_nothing(
    argument: str, value: object, reason: str
) -> None:
    table = store()
    with pytest.raises(ValueError, match=f"^{argument}: {reason}"):
        table.put_many(**put_arguments() | {argument: value})
    assert table.stats()["entries"] == 0


@pytest.mark.parametrize(
    ("argument", "value", "reason"),
    [
        ("cursor", -1, "expected 0 or the cursor of an earlier call, got -1"),
        ("cursor", 4096, "expected 0 or the cursor of an earlier call, got 4096"),
        ("keys", frozen(np.zeros((N, 2), np.uint64)), "must be writeable"),
        ("keys", np.zeros((0, 2), np.uint64), "must have room for an entry at least"),
        ("written_at_ms", np.zeros(N - 1, np.int64), "expected length 4"),
        ("snapshots", np.zeros(N, np.uint64), "expected dtype uint32"),
        ("origins", np.zeros((N, 1), np.uint8), r"expected 1 dimension\(s\)"),
    ],
)
def test_scan_names_what_is_wrong(argument: str, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{argument}: {reason}"):
        store().scan(**scan_arguments() | {argument: value})


@pytest.mark.parametrize(
    ("argument", "value", "reason"),
    [
        ("capacity", 0, "expected 1 to 68719476736, got 0"),
        ("capacity", 2**40, "expected 1 to"),
        ("dim", 0, "expected 1 to 65536, got 0"),
        ("dim", -3, "expected 1 to 65536, got -3"),
        ("parts", 17, "expected 1 to 16, got 17"),
        ("dtype", "fp64", 'expected "fp32", "fp16", "bf16" or "int8", got "fp64"'),
        ("id_kind", 2, r"expected INTEGER \(0\) or STRING \(1\), got 2"),
        ("seed", bytes(16), "expected 32 bytes, got 16"),
    ],
)
def test_create_names_what_is_wrong(argument: str, value: object, reason: str) -> None:
    arguments: dict[str, Any] = {"capacity": 32, "dim": DIM, argument: value}
    with pytest.raises(ValueError, match=f"^{argument}: {reason}"):
        EmbeddingCache.create(**arguments)


def test_a_table_larger_than_the_address_space_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        EmbeddingCache.create(capacity=2**36, dim=2**16, parts=16, dtype="fp32")


@pytest.mark.parametrize("wrong", [[[0, 0]], None, "keys"])
def test_what_is_not_an_array_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError):
        store().touch_many(wrong)
    with pytest.raises(TypeError):
        store().invalidate_many(wrong)


def test_string_that_has_no_utf8_is_a_value_error() -> None:
    table = EmbeddingCache.create(capacity=16, dim=1, id_kind=STRING)
    with pytest.raises(UnicodeEncodeError):
        table.key_of_string("\ud800")
    with pytest.raises(TypeError):
        table.key_of_string(b"bytes")  # type: ignore[arg-type]


def test_empty_batches_do_nothing() -> None:
    table = store()
    none = np.zeros((0, 2), np.uint64)
    out, ages = np.zeros((0, DIM), np.float32), np.zeros(0, np.int64)
    assert table.get_many(none, 0, 0, out, ages) == 0
    assert table.put_many(none, np.zeros((0, DIM * PARTS), np.float32), 0, 0, 0) == 0
    assert table.touch_many(none) == table.invalidate_many(none) == 0
    assert table.scan(**scan_arguments()) == (0, 0)
    assert table.check() == [] and table.stats()["entries"] == 0


def test_inputs_may_be_read_only() -> None:
    table = store()
    arguments = put_arguments()
    frozen(arguments["keys"]), frozen(arguments["rows"])
    assert table.put_many(**arguments) == N
    assert table.touch_many(arguments["keys"]) == N

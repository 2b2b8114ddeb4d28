"""Tensor files against the library's own reader, and everything that a broken one can be."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np
from safetensors.numpy import load, save

from predawn.server.models.tensor_file import Tensors, read_tensors

DTYPES = [
    *(np.float64, np.float32, np.float16, np.complex64, np.bool_, np.int64, np.int32),
    *(np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8),
]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: st_np.arrays(dtype, st_np.array_shapes(min_dims=0, min_side=0, max_side=4))
)


def read(path: Path, content: bytes) -> tuple[Tensors, bytes]:
    """The arrays, and all that the reader told of the file."""
    path.write_bytes(content)
    told: list[bytes] = []
    with path.open("rb") as file:
        return read_tensors(file, lambda part: told.append(bytes(part))), b"".join(told)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensors") / "a.safetensors"


@given(st.dictionaries(st.text(max_size=6), ARRAYS, max_size=6))
@settings(max_examples=150, deadline=None)
def test_it_is_what_the_library_reads(path: Path, arrays: dict[str, Any]) -> None:
    content = save({name: np.ascontiguousarray(each) for name, each in arrays.items()})
    found, told = read(path, content)
    expected = load(content)
    assert told == content
    assert set(found) == set(expected)
    for name, array in found.items():
        assert (array.dtype, array.shape) == (expected[name].dtype, expected[name].shape)
        assert array.tobytes() == expected[name].tobytes()
        assert array.flags.writeable and array.flags.c_contiguous and array.base is None


def test_free_text_in_the_header_is_no_array(path: Path) -> None:
    content = save({"a": np.ones(2, np.float32)}, {"made": "by hand"})
    assert list(read(path, content)[0]) == ["a"]


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: Any, end: Any, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "a header of 0 bytes in a file of 0"),
        (b"\x01\0\0\0", "in a file of 4"),
        (b"\xff" * 8 + b"{}", "a header of 18446744073709551615 bytes in a file of 10"),
        (file_of(b"{"), "Expecting property name"),
        (file_of(b"\xff"), "decode"),
        (file_of(b"[" * 100_000), "nested"),
        (file_of([1]), "the header is not an object"),
        (file_of({"a": 7}), "'a' is described as 7"),
        (file_of({"a": entry(0, 8, dtype="F33")}, b"12345678"), "is described as"),
        (file_of({"a": entry(0, 8, dtype=["F32"])}, b"12345678"), "is described as"),
        (file_of({"a": entry(0, 8, shape=[-2])}, b"12345678"), "is described as"),
        (file_of({"a": entry(0, 8, shape=[True, 2])}, b"12345678"), "is described as"),
        (file_of({"a": entry(0, 8, shape=[3])}, b"12345678"), "is described as"),
        (file_of({"a": entry(0, 8, shape=7)}, b"12345678"), "is described as"),
        (file_of({"a": entry(0.0, 8)}, b"12345678"), "is described as"),
        (file_of({"a": entry(0, 8)}, b"1234"), "'a' is bytes 0 to 8 of 4"),
        (file_of({"a": entry(0, 2**60, shape=[2**58])}, b"1234"), "is bytes 0 to"),
        (file_of({"a": entry(4, 12)}, b"123412345678"), "'a' is bytes 4 to 12 of 12"),
        (file_of({"a": entry(0, 8), "b": entry(0, 8)}, b"12345678"), "'b' is bytes 0 to 8"),
        (file_of({"a": entry(0, 8)}, b"123456789"), "1 bytes belong to no array"),
    ],
)
def test_a_file_that_is_none_says_why(path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read(path, content)


@given(at=st.integers(0, 200), byte=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_is_read_or_refused(path: Path, at: int, byte: int) -> None:
    content = bytearray(save({"a": np.ones(4, np.float32), "b": np.ones((2, 2), np.uint64)}))
    content[at % len(content)] = byte
    with contextlib.suppress(ValueError):
        read(path, bytes(content))

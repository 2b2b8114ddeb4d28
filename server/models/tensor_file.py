"""The arrays of a safetensors file, read without holding the interpreter.

Invariant: what comes back is what `safetensors.numpy.load` gives, array for array, or a ValueError.
That function copies all of a file in one native call, during which no other thread of the process
runs (155 ms for 128 MB: a pause of every request while a new version is loaded). Here every array
is read into its own memory, and reading and hashing let the other threads run.

Layout: u64 length of the header, little-endian; the header, JSON: name -> {"dtype", "shape",
"data_offsets": [begin, end] after the header}, and free text in "__metadata__"; the data, without
gaps.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[Any]]

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "C64": "<c8", "BOOL": "?",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip
_LENGTH_BYTES = 8


def read_tensors(file: BufferedReader, seen: Callable[[Any], None]) -> Tensors:
    """Arrays by name, in the order of the header. seen: told every byte of the file in order, as
    buffers. ValueError says what is wrong with the file."""
    size = os.fstat(file.fileno()).st_size
    header = _header(file, size, seen)
    described = [_Described.of(name, each) for name, each in header.items()]
    left = size - file.tell()
    arrays: Tensors = dict.fromkeys(header, np.zeros(0))
    at = 0
    for each in sorted(described, key=lambda each: (each.begin, each.end)):
        if each.begin != at or each.end > left:
            raise ValueError(f"{each.name!r} is bytes {each.begin} to {each.end} of {left}")
        arrays[each.name] = _read(file, each, seen)
        at = each.end
    if at != left:
        raise ValueError(f"{left - at} bytes belong to no array")
    return arrays


@dataclass(frozen=True, slots=True)
class _Described:
    """One array, by its entry in the header."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int

    @classmethod
    def of(cls, name: str, entry: Any) -> "_Described":
        try:
            dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
            begin, end = entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{name!r} is described as {entry!r}") from None
        sizes = (*shape, begin, end)
        whole = all(type(each) is int and each >= 0 for each in sizes)
        if not whole or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name!r} is described as {entry!r}")
        return cls(name, dtype, shape, begin, end)


def _header(file: BufferedReader, size: int, seen: Callable[[Any], None]) -> dict[str, Any]:
    start = file.read(_LENGTH_BYTES)
    length = int.from_bytes(start, "little")
    if len(start) < _LENGTH_BYTES or _LENGTH_BYTES + length > size:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    text = file.read(length)
    seen(start)
    seen(text)
    try:
        header = json.loads(text)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    header.pop("__metadata__", None)
    return header


def _read(file: BufferedReader, each: _Described, seen: Callable[[Any], None]) -> NDArray[Any]:
    array = np.empty(each.shape, each.dtype)
    buffer = array.reshape(-1).view(np.uint8).data
    if file.readinto(buffer) != len(buffer):
        raise ValueError(f"the file ends in {each.name!r}")
    seen(buffer)
    return array

"""Bodies for the codec's tests: strategies of valid ones."""

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

FEATURES = ("price", "age", "duration_s")
TYPES = ("shown", "clicked", "liked")
ATTRIBUTES = ("income", "tenure")

integers = st.integers(0, 2**64 - 1) | st.integers(0, 20)
strings = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.sampled_from(
    ["a", '"', "\\", "\n", "\x00", "é", "😀", "x" * 256, "😀" * 64]
)
numbers = (
    st.floats(width=32, allow_nan=False, allow_infinity=False)
    | st.floats(-1e38, 1e38)
    | st.integers(-(2**63), 2**63)
)


def _columns(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), numbers)


def _items(ids: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    unique = st.lists(ids, min_size=1, max_size=12, unique=True)
    extras = st.lists(st.none() | _columns(FEATURES), min_size=12, max_size=12)
    return st.builds(
        lambda many, more: [
            item if features is None else {"id": item, "features": features}
            for item, features in zip(many, more, strict=False)
        ],
        unique,
        extras,
    )


rank_documents = st.fixed_dictionaries(
    {"user": integers | strings, "items": _items(integers) | _items(strings)},
    optional={
        "ranker": strings,
        "top_k": st.integers(1, 2**64 - 1),
        "timeout_ms": st.floats(min_value=0.001, max_value=1e9),
        "explain": st.booleans(),
    },
)
_event = st.builds(
    lambda event, types: event | types,
    st.fixed_dictionaries(
        {"user": integers | strings, "item": integers | strings},
        optional={"t_ms": st.integers(0, 2**63 - 1)},
    ),
    st.fixed_dictionaries({"type": st.sampled_from(TYPES)})
    | st.fixed_dictionaries(
        {"types": st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True)}
    ),
)


def _id_of(user: dict[str, Any]) -> Hashable:
    return user["id"]  # type: ignore[no-any-return]


_users = st.lists(
    st.fixed_dictionaries({"id": integers | strings, "attributes": _columns(ATTRIBUTES)}),
    unique_by=_id_of,
    min_size=1,
    max_size=5,
)
events_documents = st.fixed_dictionaries(
    {"events": st.lists(_event, min_size=1, max_size=8)}, optional={"users": _users}
)


def written(document: Any, style: int) -> bytes:
    """A document as JSON in one of four styles."""
    return json.dumps(
        document,
        ensure_ascii=bool(style & 1),
        indent=1 if style & 2 else None,
        separators=None if style & 2 else (",", ":"),
    ).encode()


def resident_bytes() -> int:
    """Memory of this process that is in RAM (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

"""Keys of (string user, item): SipHash-128 of text and item, in one batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from predawn.csrc._core import pair_keys_of_string, siphash128

KEY = bytes(range(16))
ITEMS = st.lists(st.integers(0, 2**64 - 1), max_size=20)


def keys_of(key: bytes, user: str, items: list[int]) -> NDArray[np.uint64]:
    keys = np.zeros((len(items), 2), dtype=np.uint64)
    pair_keys_of_string(key, user, np.array(items, dtype=np.uint64), keys)
    return keys


@given(
    key=st.binary(min_size=16, max_size=16),
    user=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    items=ITEMS,
)
def test_a_key_is_the_hash_of_text_and_item(key: bytes, user: str, items: list[int]) -> None:
    twin = [siphash128(key, user.encode() + item.to_bytes(8, "little")) for item in items]
    assert keys_of(key, user, items).tolist() == [list(pair) for pair in twin]


def test_users_whose_texts_run_into_their_items_have_different_keys() -> None:
    item = int.from_bytes(b"12345678", "little")
    users = ["u", "u12345678", "u1234567", "u1234567812345678", "", "12345678"]
    keys = {tuple(keys_of(KEY, user, [item])[0].tolist()) for user in users}
    keys |= {tuple(keys_of(KEY, user, [0])[0].tolist()) for user in users}
    assert len(keys) == 2 * len(users)


def test_arguments_that_do_not_fit_are_named() -> None:
    items, keys = np.zeros(3, dtype=np.uint64), np.zeros((3, 2), dtype=np.uint64)
    with pytest.raises(ValueError, match=r"keys: expected 3 rows \(one per item\), got 2"):
        pair_keys_of_string(KEY, "u", items, keys[:2])
    with pytest.raises(ValueError, match="key: expected 16 bytes, got 15"):
        pair_keys_of_string(KEY[1:], "u", items, keys)
    with pytest.raises(ValueError, match="items: expected dtype uint64"):
        pair_keys_of_string(KEY, "u", items.astype(np.int64), keys)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        pair_keys_of_string(KEY, "\ud800", items, keys)

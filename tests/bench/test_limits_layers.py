"""The limit of a layer is the slower of its products and its bytes, a piece of work at a time."""

import numpy as np
import pytest

from predawn.bench import limits_layers


def test_the_slower_of_two_is_the_limit() -> None:
    many_products = limits_layers.slowest(10_000_000, 64, work=7)
    many_bytes = limits_layers.slowest(64, 10_000_000, work=7)
    assert many_products is not None and many_products.name == "10000000 products"
    assert many_bytes is not None and many_bytes.name == "10000000 bytes read"
    assert many_products.work == many_bytes.work == 350
    many_products.call()
    many_bytes.call()


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_every_word_of_the_rows_is_read(kind: str) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(-100, 100, (50, 64)).astype(kind)
    batches = [rng.integers(0, 50, 20), rng.integers(0, 50, 20)]
    limit = limits_layers.rows_read(table, batches)
    assert limit is not None and limit.work == 40
    words = table.view(np.uint32)[np.concatenate(batches)]
    read = limit.call()
    assert isinstance(read, int) and np.uint32(read & 0xFFFFFFFF) == words.sum(dtype=np.uint32)

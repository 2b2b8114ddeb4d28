"""The mixing is SplitMix64's finaliser, and spreads."""

import numpy as np
import pytest

from predawn.server.models.mixing import mix


@pytest.mark.parametrize(
    ("state", "value"),  # SplitMix64's first outputs from seed 0: finaliser of k * golden ratio
    [
        (0x9E3779B97F4A7C15, 0xE220A8397B1DCDAF),
        (0x3C6EF372FE94F82A, 0x6E789E6AA1B965F4),
        (0xDAA66D2C7DDF743F, 0x06C45D188009454F),
    ],
)
def test_mix_gives_the_published_outputs(state: int, value: int) -> None:
    assert mix(np.array([state], np.uint64)).tolist() == [value]


def test_consecutive_ids_fill_a_small_table_evenly() -> None:
    rows = np.bincount((mix(np.arange(64_000, dtype=np.uint64)) % np.uint64(64)).astype(np.int64))
    assert len(rows) == 64
    assert rows.min() > 850 and rows.max() < 1150

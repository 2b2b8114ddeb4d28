import numpy as np
import pytest

from predawn.server.replay.pair_report import quantiles


def test_quantiles_are_of_the_values_and_zero_without_any() -> None:
    found = quantiles(np.arange(101))
    assert found == pytest.approx({"mean": 50, "p50": 50, "p90": 90, "p99": 99})
    assert set(quantiles(np.zeros(0, dtype=np.int64)).values()) == {0.0}

"""Native layer, numpy and torch agree on what the first layer is."""

import numpy as np
import pytest

from predawn.bench import models_first
from predawn.server.request import Source


@pytest.mark.parametrize("size", models_first.SIZES)
def test_three_ways_compute_one_layer(size: str) -> None:
    widths = models_first.SIZES[size]
    parts = models_first.parts_of(widths)
    batch = models_first.batch_of(widths, 9, seed=0)
    assert (batch.sources == Source.DEFAULT).any() and (batch.sources != Source.DEFAULT).any()
    out = np.empty((9, widths.hidden), np.float32)
    models_first.own_call(models_first.layer_of(parts, widths), batch, out)()
    by_numpy = np.asarray(models_first.numpy_call(parts, batch)())
    by_torch = np.asarray(models_first.torch_call(parts, batch)())
    assert np.ptp(out) > 1
    np.testing.assert_allclose(out, by_numpy, atol=1e-4)
    np.testing.assert_allclose(out, by_torch, atol=1e-4)

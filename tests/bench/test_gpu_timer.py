"""Times of a device: medians, tails, and floors from what was measured."""

from collections.abc import Callable

import pytest
import torch

from predawn.bench.gpu_timer import Ceilings, CudaTimer, Sample, measure_ceilings, sample


def test_sample_is_median_and_tail() -> None:
    times = [*range(1, 101), 1000.0]
    taken = sample([float(t) for t in times])
    assert (taken.median_us, taken.n) == (51.0, 101)
    assert 99 < taken.p99_us <= 1000


def test_floor_is_the_slower_of_moving_and_computing() -> None:
    ceilings = Ceilings(bytes_s=1e12, flop_s=1e15)
    assert ceilings.floor_us(10**6, 0) == pytest.approx(1.0)
    assert ceilings.floor_us(10**6, 10**10) == pytest.approx(10.0)


def test_ceilings_count_bytes_both_ways_and_two_flop_a_product() -> None:
    class Second:
        def time(self, call: Callable[[], object]) -> Sample:
            call()
            return Sample(1e6, 1e6, 1)

    ceilings = measure_ceilings(Second(), "cpu", scale=64)
    assert ceilings.bytes_s == pytest.approx(2 * 2**31 / 64)
    assert ceilings.flop_s == pytest.approx(2 * 128**3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_takes_longer_for_more() -> None:
    timer = CudaTimer(repeats=20)
    small, large = (torch.ones(n, device="cuda") for n in (2**20, 2**28))
    assert timer.time(lambda: large * 2).median_us > timer.time(lambda: small * 2).median_us

"""Native loops copy the rows they say they do, and limits have the sizes they say."""

import numpy as np
import pytest

from predawn.bench import limits_memory
from predawn.bench.harness import Effort


@pytest.mark.parametrize("row_bytes", [64, *limits_memory.ROW_BYTES])
def test_rows_and_lookups_copy_every_byte_of_a_batch(row_bytes: int) -> None:
    for gather in (
        limits_memory.random_rows(2**21, row_bytes, huge=True),
        limits_memory.random_rows(2**21, row_bytes, huge=False),
        limits_memory.lookups(1_000, row_bytes),
    ):
        with gather:
            subject = gather.subject("native")
            assert subject.work == limits_memory.BATCH
            subject.call()
            assert np.all(gather.out == 1)


def test_the_limit_cases_move_what_they_say() -> None:
    for case in (
        limits_memory.memcpy(limits_memory.SMOKE),
        limits_memory.numpy_rows(limits_memory.SMOKE),
    ):
        assert case.work_bytes and Effort(1, 1.0).wants(case.name)
        case.own.call()

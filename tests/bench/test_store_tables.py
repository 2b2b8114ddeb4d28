"""Tables hold what they say they hold, and batches ask for what is there."""

from pathlib import Path

import numpy as np
import pytest

from predawn.bench.harness import BenchError
from predawn.bench.store_tables import (
    batches_of,
    filled,
    ids_of,
    rows_of,
    scratch,
    store_reader,
    stored_bytes,
    table_name,
)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_store_gives_back_exactly_what_it_was_filled_with(dtype: str) -> None:
    rows = rows_of(2_000, 32)
    table = filled(rows, dtype)
    batches = batches_of(table.live, 100)
    read = store_reader(table, batches)
    assert np.array_equal(read(5), rows[batches.positions[5]])
    assert table.name == table_name(dtype, 32, 2_000)
    assert table.row_bytes == stored_bytes(dtype, 32)


def test_a_store_that_lost_rows_is_refused() -> None:
    with pytest.raises(BenchError, match="of 2000 entries found"):
        filled(rows_of(2_000, 8), "fp32", capacity=1_000)


def test_ids_are_distinct_and_continue() -> None:
    ids = ids_of(1_000)
    assert len(np.unique(ids)) == 1_000 and np.array_equal(ids_of(10, start=990), ids[990:])


def test_a_subject_calls_with_batch_after_batch_and_starts_again() -> None:
    batches = batches_of(np.arange(100), 50)
    called: list[int] = []
    subject = batches.subject("s", called.append)
    for _ in range(len(batches.positions) + 1):
        subject.call()
    assert subject.work == 50 and called[:2] == [0, 1] and called[-1] == 0


def test_scratch_is_gone_afterwards() -> None:
    with scratch() as folder:
        (folder / "x").write_text("x")
    assert not Path(folder).exists()

from pathlib import Path

from trace_cases import REQUESTS, same, written

from predawn.server.traces import (
    read_trace,
)


def test_a_slice_owns_its_rows_and_truth(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path / "t.jsonl", REQUESTS))
    part = trace.slice(1, 3)
    assert part.offsets.tolist() == [0, 1, 3] and part.items.tolist() == [0, 4, 2**64 - 1]
    assert [part.user(i) for i in range(2)] == [2**64 - 1, 7]
    same(trace.slice(0, 3), trace)

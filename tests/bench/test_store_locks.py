"""The locked peer does the same work as the store."""

import numpy as np
import pytest

from predawn.bench import compiled, harness, store_locks
from predawn.bench.store_tables import DIM, SMOKE, ids_of, keys_of


def test_puts_are_timed_against_the_locked_ones() -> None:
    rows = store_locks.locks(harness.stamp("store"), SMOKE, harness.SMOKE)
    (row,) = (row for row in rows if row.metric == "time")
    assert row.case in store_locks.names(SMOKE)
    assert row.peer is not None and row.peer.startswith("locked")
    assert row.value > 0


@pytest.mark.parametrize("put", ["writer_put", "writer_put_locked"])
def test_both_write_every_key_of_a_batch(put: str) -> None:
    try:
        library = store_locks._library()
    except compiled.Missing as reason:
        pytest.fail(f"the tests need a C++ compiler, as the build does: {reason}")
    writer = library.writer_create(1_000, DIM)
    keys = keys_of(ids_of(100))
    rows = np.ones((100, DIM), np.float32)
    for _ in range(3):
        assert getattr(library, put)(writer, keys.ctypes.data, 100, rows.ctypes.data) == 100
    library.writer_destroy(writer)


def test_a_machine_without_a_compiler_names_the_peer_as_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> object:
        raise compiled.Missing(f"no C++ compiler for {name}")

    monkeypatch.setattr(compiled, "library", missing)
    rows = store_locks.locks(harness.stamp("store"), SMOKE, harness.SMOKE)
    assert any("absent: no C++ compiler" in (row.peer or "") for row in rows)

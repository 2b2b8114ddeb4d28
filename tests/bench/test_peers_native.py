"""The store is read from C++ as its peers are; a peer that cannot be compiled is named."""

from pathlib import Path

import numpy as np
import pytest

from predawn.bench import compiled, peers_native
from predawn.bench.harness import BenchError
from predawn.bench.store_tables import filled, ids_of, rows_of


def test_the_store_reads_the_same_rows_from_c_as_from_python(tmp_path: Path) -> None:
    rows = rows_of(3_000, peers_native.DIM)
    table = filled(rows, "fp16", path=tmp_path / "store")
    asked = table.live[:600].reshape(3, 200)
    with peers_native.attached(tmp_path / "store") as reader:
        read = reader.of(table.keys[asked])
        assert np.array_equal(read(2), rows[asked[2]])


def test_a_key_that_is_not_found_is_an_error(tmp_path: Path) -> None:
    table = filled(rows_of(1_000, peers_native.DIM), "fp32", path=tmp_path / "store")
    with peers_native.attached(tmp_path / "store") as reader:
        read = reader.of(table.keys[:1].repeat(4, axis=0).reshape(1, 4, 2) + np.uint64(1))
        with pytest.raises(BenchError, match="predawn found 0 of 4 keys"):
            read(0)


def test_no_store_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match="cannot be attached"),
        peers_native.attached(tmp_path / "nothing"),
    ):
        pass


def test_peers_that_cannot_be_compiled_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *more: str) -> object:
        raise compiled.Missing(f"needs {name}")

    monkeypatch.setattr(compiled, "library", missing)
    with peers_native.opened(ids_of(10), rows_of(10, peers_native.DIM)) as peers:
        assert peers.readers == {}
        assert peers.absent["tbb"] == "needs peer_tbb"

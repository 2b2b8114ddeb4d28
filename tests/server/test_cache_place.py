"""Tables in files: a restart finds its embeddings, and no file that does not fit is touched."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from predawn.csrc import _core
from predawn.server.cache import StorePlace, TableSpec, UserCache
from predawn.server.cache_place import attached, opened
from predawn.server.clock import SystemClock
from predawn.server.errors import ConfigError
from predawn.server.request import F32

SEED = bytes(range(32))
SPEC = TableSpec("m", 2, 1, "fp16", 100, np.zeros(2, dtype=np.float32))


def rows(*values: float) -> F32:
    return np.repeat(np.array(values, dtype=np.float32)[:, None], 2, axis=1)


def cache_at(place: StorePlace, spec: TableSpec = SPEC) -> UserCache:
    return UserCache([spec], SystemClock(), 1, 100, SEED, place)


async def landed(cache: UserCache) -> None:
    cache.land("m", [7, "anna"], rows(1, 2), 3)
    await cache.flushed()


def test_a_restart_finds_what_was_written_with_its_age_and_snapshot(tmp_path: Path) -> None:
    place = StorePlace(str(tmp_path / "made" / "here"))
    before = cache_at(place)
    asyncio.run(landed(before))
    before.close()

    after = cache_at(place)
    reading = after.read("m", [7, "anna", 8], 60_000)
    assert reading.rows.tolist() == [[1, 1], [2, 2], [0, 0]]
    assert (reading.ages_ms[:2] >= 0).all()
    assert reading.ages_ms[2] == -1
    assert reading.snapshots.tolist() == [3, 3, 0]
    assert after.check() == []
    after.close()


def test_two_servers_share_a_directory(tmp_path: Path) -> None:
    place = StorePlace(str(tmp_path))
    first = cache_at(place)
    asyncio.run(landed(first))
    second = cache_at(place)
    second.land("m", [8], rows(5), 4)
    asyncio.run(second.flushed())
    assert first.read("m", [8], 60_000).rows.tolist() == [[5, 5]]
    first.close()
    assert second.read("m", [7], 60_000).rows.tolist() == [[1, 1]]
    second.close()


def test_a_file_made_by_a_faster_server_is_attached(tmp_path: Path) -> None:
    place = StorePlace(str(tmp_path))
    mine = cache_at(place)
    other = opened(SPEC, place, _core.INTEGER, SEED)
    asyncio.run(landed(mine))
    assert other.stats()["entries"] == 1
    other.close()
    mine.close()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"dim": 3, "default": np.zeros(3, dtype=np.float32)}, "holds dim 2, .* needs dim 3"),
        ({"average_over": 2}, "average_over 1, .* average_over 2"),
        ({"dtype": "fp32"}, "dtype fp16, .* dtype fp32"),
        ({"capacity": 5_000}, r"capacity 112; model m needs .*, capacity 5000: remove the file"),
    ],
)
def test_a_file_of_another_shape_is_refused_and_left_alone(
    tmp_path: Path, changed: dict[str, object], reason: str
) -> None:
    place = StorePlace(str(tmp_path))
    opened(SPEC, place, _core.INTEGER, SEED).close()
    path = tmp_path / "m.integer.store"
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"^store.path: .*{reason}"):
        cache_at(place, replace(SPEC, **changed))  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == [path]
    opened(SPEC, place, _core.INTEGER, SEED).close()
    assert path.read_bytes()[:144] == before[:144]


def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.string.store"
    path.write_bytes(b"my diary " * 1_000)
    with pytest.raises(ConfigError, match=r"store.path: .*m\.string\.store"):
        attached(SPEC, StorePlace(str(tmp_path)))
    assert path.read_bytes() == b"my diary " * 1_000


def test_a_table_that_cannot_be_made_costs_its_rows_and_is_said_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = cache_at(StorePlace(str(tmp_path / "file" / "below")))
    with caplog.at_level(logging.ERROR):
        asyncio.run(landed(cache))
        asyncio.run(landed(cache))
    assert cache.stats()["m"]["pending"] == 0
    assert (cache.read("m", [7, "anna"], 60_000).ages_ms == -1).all()
    assert caplog.text.count("1 rows of model m are lost") == 1  # of four: not a flood
    assert "Not a directory" in caplog.text
    cache.close()


@pytest.mark.parametrize("huge_pages", [False, True])
def test_rows_are_readable_while_their_table_is_made(huge_pages: bool) -> None:
    place = StorePlace(huge_pages=huge_pages)
    cache = cache_at(place)
    cache.land("m", [7], rows(4), 1)
    assert cache.flush() == (0 if huge_pages else 1)
    assert cache.stats()["m"]["pending"] == (1 if huge_pages else 0)
    assert cache.read("m", [7], 60_000).rows.tolist() == [[4, 4]]

    asyncio.run(cache.flushed())
    assert cache.stats()["m"]["entries"] == 1
    assert cache.read("m", [7], 60_000).rows.tolist() == [[4, 4]]


def test_closing_writes_what_has_landed(tmp_path: Path) -> None:
    place = StorePlace(str(tmp_path))
    opened(SPEC, place, _core.INTEGER, SEED).close()
    cache = cache_at(place)
    cache.land("m", [7], rows(6), 1)
    cache.close()
    again = cache_at(place)
    assert again.read("m", [7], 60_000).rows.tolist() == [[6, 6]]
    again.close()

"""Records of aligned versions: what was kept comes back bit for bit, or an error names the file."""

import logging
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from engine_cases import publish, recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from predawn.server.errors import ConfigError, SnapshotError
from predawn.server.models.alignment_record import (
    first_version,
    is_recorded,
    keep_alignment,
    kept_alignment,
)
from predawn.server.models.loading import Recipe
from predawn.server.request import F32

MATRIX: F32 = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].astype(np.float32)


@pytest.fixture
def aligned(tmp_path: Path) -> Recipe:
    """Of a model with versions 1 to 3, whose store has no files yet."""
    for version in (1, 2, 3):
        assert publish(tmp_path / "snapshots", turn=version) == version
    return of(tmp_path)


def of(folder: Path) -> Recipe:
    made = recipe("user", "turned", folder / "snapshots")
    return Recipe(made.kind, made.source, align=True, alignments=str(folder / "store"))


def file_of(aligned: Recipe, version: int) -> Path:
    return Path(aligned.alignments) / f"m.{version:06d}.alignment"


def test_what_was_kept_comes_back(aligned: Recipe) -> None:
    keep_alignment("m", aligned, 1, 0, None)
    keep_alignment("m", aligned, 2, 1, MATRIX[:, ::-1])
    keep_alignment("m.x", aligned, 1, 0, MATRIX)
    assert [is_recorded("m", aligned, version) for version in (1, 2, 3)] == [True, True, False]
    assert kept_alignment("m", aligned, 1) is None
    kept = kept_alignment("m", aligned, 2)
    assert kept is not None and kept.dtype == np.float32
    np.testing.assert_array_equal(kept, MATRIX[:, ::-1])
    assert kept_alignment("m", aligned, 3) is None
    keep_alignment("m", aligned, 2, 1, MATRIX)  # loaded once more
    np.testing.assert_array_equal(kept_alignment("m", aligned, 2), MATRIX)
    assert not list(Path(aligned.alignments).glob(".writing-*"))


def test_a_crash_while_it_is_written_leaves_the_last_one(aligned: Recipe) -> None:
    keep_alignment("m", aligned, 2, 1, MATRIX)
    with (
        mock.patch("os.replace", side_effect=OSError("no space")),
        pytest.raises(ConfigError, match=r"store\.path: the alignment of m .* no space"),
    ):
        keep_alignment("m", aligned, 2, 1, MATRIX.T)
    np.testing.assert_array_equal(kept_alignment("m", aligned, 2), MATRIX)
    assert [each.name for each in Path(aligned.alignments).iterdir()] == ["m.000002.alignment"]


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_record_is_an_error_that_names_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("record")
    publish(folder / "snapshots", turn=1)
    aligned = of(folder)
    keep_alignment("m", aligned, 1, 0, MATRIX)
    path = file_of(aligned, 1)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1), label="byte")
    if data.draw(st.booleans(), label="cut"):
        path.write_bytes(whole[:at])
    else:
        whole[at] ^= data.draw(st.integers(1, 255), label="bits")
        path.write_bytes(whole)
    try:
        kept = kept_alignment("m", aligned, 1)
    except SnapshotError as error:
        assert error.path == str(path) and "remove the file" in error.reason
    else:  # JSON may say one thing in two ways
        np.testing.assert_array_equal(kept, MATRIX)


def test_a_foreign_record_is_an_error_that_names_it(aligned: Recipe) -> None:
    keep_alignment("m", aligned, 2, 1, MATRIX)
    shutil.copy(file_of(aligned, 2), file_of(aligned, 3))
    with pytest.raises(SnapshotError, match=r"000003\.alignment: is of version 2 of model 'm'"):
        kept_alignment("m", aligned, 3)
    manifest = Path(aligned.source.snapshot) / "000002" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(SnapshotError, match=r"000002\.alignment: is of another snapshot"):
        kept_alignment("m", aligned, 2)


def test_a_start_takes_the_newest_version_with_a_record(
    aligned: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert first_version("m", aligned) == 3
        assert not caplog.records
        keep_alignment("m", aligned, 1, 0, None)
        assert first_version("m", aligned) == 1
        assert "starts with version 1; version 3 has not been aligned to it" in caplog.text
        keep_alignment("m", aligned, 2, 1, MATRIX)
        assert first_version("m", aligned) == 2
        caplog.clear()
        keep_alignment("m", aligned, 3, 2, MATRIX)
        assert first_version("m", aligned) == 3
        assert not caplog.records


def test_versions_that_are_gone_and_records_that_are_gone_are_said(
    aligned: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    keep_alignment("m", aligned, 1, 0, None)
    shutil.rmtree(Path(aligned.source.snapshot) / "000001")
    assert first_version("m", aligned) == 3
    assert "embeddings are of version 1, which is not there any more" in caplog.text
    file_of(aligned, 1).unlink()
    (Path(aligned.alignments) / "m.integer.store").touch()
    assert first_version("m", aligned) == 3
    assert "nothing tells how the versions that made the store's embeddings" in caplog.text


def test_where_rows_do_not_outlive_the_process_nothing_is_kept(tmp_path: Path) -> None:
    publish(tmp_path, turn=1)
    in_memory = recipe("user", "turned", tmp_path)
    keep_alignment("m", in_memory, 1, 0, MATRIX)
    assert kept_alignment("m", in_memory, 1) is None
    assert first_version("m", in_memory) == 1
    assert first_version("m", recipe("user", "scaled")) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["000001"]


def test_the_newest_records_are_kept(aligned: Recipe) -> None:
    for version in range(4, 21):
        publish(Path(aligned.source.snapshot), turn=version)
    for version in range(1, 21):
        keep_alignment("m", aligned, version, version - 1, MATRIX)
    assert [version for version in range(1, 21) if is_recorded("m", aligned, version)] == list(
        range(5, 21)
    )

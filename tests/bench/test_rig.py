"""Settings become TOML that reads back as the same settings, and a server runs on them."""

import tomllib
from pathlib import Path

import pytest

from predawn.bench import load, rig
from predawn.bench.bodies import rank_body
from predawn.bench.child import ChildDied, free_port


def test_toml_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    settings = rig.bare_settings(tmp_path, 1234, mode="ercache", options={"dim": 8, "flag": 'a"b'})
    assert tomllib.loads(rig.toml(settings)) == settings
    settings = rig.reference_settings(tmp_path, 1, tmp_path, {"mode": "soap"}, ("a", "b"))
    assert tomllib.loads(rig.toml(settings)) == settings


def test_drive_counts_answers_sources_and_cpu(tmp_path: Path) -> None:
    with rig.bare(tmp_path) as child:
        message = load.http_message("/v1/rank", rank_body(8))
        drive = rig.drive(child, [message], load.uniform(200, 20))
        computed = rig.metrics(child).total("predawn_inferences_total")
    assert drive.totals.answered == 20 and drive.recorder.errors() == {}
    assert drive.recorder.sources.total() == 20
    assert drive.cpu_us_per_request > 1 and drive.wall_s >= 0.09
    assert computed == 1


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    settings = rig.bare_settings(tmp_path, free_port(), options={"no_such": 1})
    with (
        pytest.raises(ChildDied, match=r"(?s)ended with status 2:.*no_such"),
        rig.running(settings, tmp_path),
    ):
        raise AssertionError("it started")

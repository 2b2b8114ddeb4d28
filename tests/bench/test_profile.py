"""A profile of the real server: every request timed, stages that sum up, both outputs complete."""

import io
from pathlib import Path

import orjson
import pytest
from rich.console import Console

from predawn.bench import profile, rig
from predawn.bench.child import Child, free_port


def test_every_request_of_the_server_is_timed_and_shown(tmp_path: Path) -> None:
    with rig.bare(tmp_path) as child:
        target = profile.target_of(f"http://127.0.0.1:{child.port}", users=20, items=8)
        found = profile.run(target, seconds=1.0, rate=150)
    assert found.totals.answered == len(found.found) == 150
    said = orjson.loads(profile.as_json(found))
    assert said["errors"] == 0 and len(said["slowest"]) == 10
    assert said["sums_up"] == (abs(said["residual_share"]) <= 0.05)
    assert 0 < said["sum"]["mean_us"] <= said["latency"]["mean_us"] * 1.05
    out = io.StringIO()
    profile.show(found, Console(file=out, width=200))
    assert "add up" in out.getvalue() or "adds up" in out.getvalue()
    assert "network out" in out.getvalue()


def test_replies_without_stamps_are_refused(tmp_path: Path) -> None:
    port = free_port()
    arguments = ["-m", "predawn.bench.echo", "protocol", str(port), "64"]
    with Child(arguments, port, tmp_path / "log") as child:
        child.wait_ready("/", 20)
        target = profile.target_of(f"127.0.0.1:{port}", users=2, items=2)
        with pytest.raises(profile.ProfileError, match="no x-predawn-timing header"):
            profile.run(target, seconds=0.1, rate=50)


def test_a_url_without_a_host_is_refused() -> None:
    with pytest.raises(profile.ProfileError, match="expected http://HOST:PORT"):
        profile.target_of("http://")

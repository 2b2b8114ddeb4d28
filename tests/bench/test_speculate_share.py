"""CPU of a request by what is done with pairs, small, on real servers that take turns."""

from pathlib import Path

from predawn.bench import harness, speculate_share

MARK = harness.Stamp("speculate", "abc", "cpu x2")


def test_what_a_step_adds_is_the_difference_turn_by_turn() -> None:
    cpu = {"none": [100.0, 90.0], "read": [110.0, 130.0], "hooks": [150.0, 150.0]}
    rows = speculate_share._rows(MARK, speculate_share.FULL, {**cpu, "on": [200.0, 200.0]})
    found = {row.metric: row.value for row in rows}
    assert found["read_over_none_per_pair"] == 25 / 100
    assert found["hooks_over_read_share"] == 30 / 150
    assert found["on_over_hooks_per_pair"] == 0.5


def test_every_kind_of_server_is_measured(tmp_path: Path) -> None:
    rows = speculate_share.rows(MARK, tmp_path, smoke=True, effort=harness.SMOKE)
    found = {row.metric: row.value for row in rows}
    assert all(found[f"cpu_per_request_{kind}"] > 0 for kind in speculate_share.KINDS)

"""Every suite runs at smoke size, keeps the JSON contract and leaves no figure out."""

import math

import pytest

from predawn.bench import suites
from predawn.server.errors import UnknownName

NATIVE = ("limits", "codec", "store")


@pytest.mark.parametrize("name", NATIVE)
def test_suite_runs_at_smoke_size(name: str) -> None:
    notes: list[str] = []
    rows = suites.run_suite(name, smoke=True, note=notes.append)
    assert {row.suite for row in rows} == {name}
    assert all(math.isfinite(row.value) and row.commit and row.device for row in rows)
    assert [row.metric for row in rows if row.case == "machine"] == ["stall_share"]
    assert len(notes) == 1


def test_unknown_suite_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'codec'"):
        suites.run_suite("codecs")

"""Small configurations of the store's Promela models hold; every planted fault is caught.

`make verify` runs the larger ones.
"""

from pathlib import Path

import pytest
import spin_models
from spin_models import FAULTS, LONG, QUICK, Run, runs


def outcome_of(run: Run, work: Path) -> spin_models.Outcome:
    if spin_models.tool_missing():
        pytest.skip("needs spin (Debian package spin)")
    return spin_models.check(run, work)


@pytest.mark.parametrize("run", QUICK, ids=lambda run: run.name)
def test_protocol_holds_in_every_interleaving(run: Run, tmp_path: Path) -> None:
    outcome = outcome_of(run, tmp_path)
    assert outcome.result == "exhaustive, 0 errors"
    assert outcome.states > 10_000


@pytest.mark.parametrize("run", FAULTS, ids=lambda run: run.name)
def test_planted_fault_is_caught(run: Run, tmp_path: Path) -> None:
    assert outcome_of(run, tmp_path).result == "caught"


def test_fault_that_is_not_there_fails_the_check(tmp_path: Path) -> None:
    [run] = runs("reaping", "LATE UNKNOWN", caught=True)
    outcome = outcome_of(run, tmp_path)
    assert (outcome.result, outcome.is_as_expected) == ("NOT CAUGHT", False)


def test_error_without_a_fault_fails_the_check(tmp_path: Path) -> None:
    [run] = runs("reaping", "NOTELATE")
    outcome = outcome_of(run, tmp_path)
    assert outcome.result.startswith("FAILED: assertion violated")
    assert not outcome.is_as_expected


def test_unfinished_check_is_no_success(tmp_path: Path) -> None:
    outcome = spin_models.judged(runs("one_key", "")[0], "", 1.0)
    assert (outcome.states, outcome.is_as_expected) == (0, False)
    cut = "Warning: Search not completed\n errors: 0\n 12 states, stored\n"
    assert not spin_models.judged(runs("one_key", "")[0], cut, 1.0).is_as_expected


def test_every_switch_of_a_run_is_known_to_the_models() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in spin_models.MODELS.glob("*.pml"))
    for run in (*QUICK, *LONG, *spin_models.FULL, *FAULTS):
        assert all(switch.split("=")[0] in text for switch in run.switches), run.name

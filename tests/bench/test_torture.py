"""The torture of the store: a short one is clean, and each planted kind of damage is found."""

import json
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from predawn.bench import torture
from predawn.bench.store_tables import scratch
from predawn.bench.torture_phases import PHASES
from predawn.bench.torture_tally import faults
from predawn.server.cli.app import build

ASKED_FOR = (
    "reads",
    "torn",
    "wrong_key",
    "older_than_seen",
    "unpublished",
    "kills",
    "stops",
    "stuck_sets",
    "puts_given_up",
)


def test_a_short_torture_of_every_phase_is_clean() -> None:
    result = CliRunner().invoke(
        build(), ["bench", "torture", "--seconds", "2", "--seed", "3", "--json", "-"]
    )
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert tuple(report)[: len(ASKED_FOR)] == ASKED_FOR
    assert report["reads"] > 100_000 and report["puts"] > 1_000
    assert report["kills"] >= 4 * 4  # the end of two rounds in three kills everybody
    assert report["valid_before"] > 0 and report["restart_found_share"] >= 0.99
    assert set(report["phases"]) == set(PHASES) and report["violations"] == []
    assert "stuck sets" in result.stderr


@pytest.mark.parametrize("wrong", ["torn", "wrong_key", "older_than_seen", "unpublished"])
def test_planted_damage_is_found_by_its_name(wrong: str) -> None:
    report = torture.run(0.3, workers=2, seed=5, phases=["steady"], plant=wrong)
    assert report[wrong] and any(sentence.startswith(wrong) for sentence in faults(report))
    violations = report["violations"]
    assert isinstance(violations, list) and violations[0]["phase"] == "steady"


def test_a_set_that_stays_claimed_is_found() -> None:
    report = torture.run(0.3, workers=2, seed=5, phases=["one set"], plant="stuck")
    assert report["stuck_sets"] == 1


def test_nothing_is_left_behind_when_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    @contextmanager
    def watched() -> Generator[Path, None, None]:
        with scratch() as folder:
            folders.append(folder)
            yield folder

    def interrupt(phase: str, share: float) -> None:
        assert phase == "steady" and share >= 0 and processes_of(folders[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("predawn.bench.torture.scratch", watched)
    with pytest.raises(KeyboardInterrupt):
        torture.run(0.3, workers=2, phases=["steady"], told=interrupt)
    assert not folders[0].exists() and not processes_of(folders[0])


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.append((process / "cmdline").read_text())
    return [line for line in found if str(folder) in line]

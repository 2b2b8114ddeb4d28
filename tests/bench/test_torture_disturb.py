"""Disturbances: they kill, stop and let go on, and see when others stand still meanwhile."""

import time
from dataclasses import replace
from pathlib import Path
from random import Random

from torture_rig import crew_at

from predawn.bench.torture_disturb import Disturber
from predawn.bench.torture_tally import Tally


def test_disturbing_kills_and_stops_and_finds_nothing_wrong(tmp_path: Path) -> None:
    tally = Tally()
    told: list[int] = []
    with crew_at(tmp_path) as (crew, supervisor):
        disturber = Disturber(crew, supervisor, Random(4), tally)
        disturber.disturb(time.monotonic() + 1.2, lambda: told.append(1))
        totals = supervisor.totals()
    assert tally.kills and tally.stops and told
    assert tally.stalled == 0 and totals["blocked"] == 0 and totals["torn"] == 0


def test_bystanders_are_measured_before_and_after_each_kill(tmp_path: Path) -> None:
    tally = Tally()
    with crew_at(tmp_path, "bystanders") as (crew, supervisor):
        disturber = Disturber(crew, supervisor, Random(4), tally)
        disturber.watch_bystanders(time.monotonic() + 0.3, lambda: None)
    assert len(tally.before_ms) == len(tally.after_ms) == tally.kills > 0
    assert min(tally.before_ms) > 0 and min(tally.after_ms) > 0


def test_a_worker_that_stands_still_unasked_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    with crew_at(tmp_path) as (crew, supervisor):
        disturber = Disturber(crew, supervisor, Random(4), tally)
        watched = disturber.watch()
        crew.end()  # nobody does anything any more
        then = replace(watched, since=watched.since - 10, beats=supervisor.beats())
        disturber.look_for_stalled(then)
    assert tally.stalled == len(watched.running) == 2

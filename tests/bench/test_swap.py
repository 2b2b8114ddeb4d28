"""The swap suite: its windows on made-up answers, its refusals, and the whole of it, small."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from version_cases import publish

from predawn.bench import harness, swap
from predawn.bench.child import Child
from predawn.bench.harness import BenchError
from predawn.bench.load import Answer
from predawn.bench.recorder import Recorder
from predawn.bench.swap import Change, Operator
from predawn.server.models.snapshots import load_snapshot

SECOND_NS = 1_000_000_000
MARK = harness.Stamp("swap", "abc", "cpu x2")


def recorded(took_ms: Sequence[float], every_ns: int = 10_000_000) -> Recorder:
    """An answer each `every_ns`, which took so long."""
    recorder = Recorder()
    for at, took in enumerate(took_ms):
        intended = at * every_ns
        received = intended + round(took * 1e6)
        recorder(Answer(at, intended, intended, received, 200, b"", b""))
    return recorder


def test_a_change_is_held_against_the_median_of_the_seconds_before_it() -> None:
    # 100 answers a second: 1, 2, 30, 4 and then 8 ms, and 6 ms once the change has begun.
    recorder = recorded([ms for ms in (1, 2, 30, 4, 8) for _ in range(100)] + [6] * 250)
    change = Change("swap", 5 * SECOND_NS, 5 * SECOND_NS + 1)
    assert swap.before_ms(recorder, change, 3) == [8, 4, 30]
    assert swap.over_before(recorder, change, 3) == pytest.approx(6 / 8)
    assert np.isnan(swap.p99_ms(recorder, 100 * SECOND_NS, 101 * SECOND_NS))


@pytest.mark.parametrize(("took_s", "worst_ms"), [(0.2, 2), (1.5, 9)])
def test_a_load_counts_for_as_long_as_it_takes_and_a_second_at_least(
    took_s: float, worst_ms: float
) -> None:
    recorder = recorded([1] * 100 + [2] * 120 + [9] * 80)
    change = Change("load", SECOND_NS, SECOND_NS + round(took_s * SECOND_NS))
    assert swap.over_before(recorder, change, 1) == pytest.approx(worst_ms)
    assert change.took_ms == pytest.approx(took_s * 1e3)


def test_the_second_version_is_the_first_one_over_again(tmp_path: Path) -> None:
    publish(tmp_path)
    first = load_snapshot(tmp_path)
    second = load_snapshot(swap.write_again(tmp_path, tmp_path))
    assert (first.version, second.version) == (1, 2)
    assert (first.meta, first.digests) == (second.meta, second.digests)


class Refusing:
    """A child that takes loads and refuses everything else."""

    def request(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        return (200 if path.endswith("load") else 409), b"nothing is staged"


def test_a_refused_change_ends_the_suite_with_its_reason() -> None:
    child: Child = Refusing()  # type: ignore[assignment]
    operator = Operator(child, rounds=1, pause_s=0.001)
    operator.start()
    while operator.at_work:
        pass
    with pytest.raises(BenchError, match="swap was answered 409: nothing is staged"):
        operator.ended()


def test_a_load_that_breaks_off_makes_no_more_changes() -> None:
    child: Child = Refusing()  # type: ignore[assignment]
    operator = Operator(child, rounds=1, pause_s=60)
    operator.start()
    assert operator.ended() == [] and not operator.at_work


def test_no_request_fails_while_versions_change_wherever_models_run() -> None:
    rows = swap.run(MARK, smoke=True, effort=harness.SMOKE)
    found = {(row.case, row.metric): row.value for row in rows}
    for isolation in swap.ISOLATIONS:
        case = f"models in a {isolation}"
        assert found[case, "errors"] == 0
        assert found[case, "p99_nothing_over_before"] > 0
        for what in ("load", "swap", "rollback"):
            assert found[case, f"p99_{what}_over_before"] > 0
            assert found[case, f"{what}_takes"] > 0

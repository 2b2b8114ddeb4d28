"""The breakdown takes nothing on trust: stages, residual and latency add up by arithmetic."""

import numpy as np
import pytest

from predawn.bench import stages
from predawn.bench.load import Answer
from predawn.bench.recorder import Recorder

HEADER = b"recv_ns=1300,decode=10,lookup=20,wait=0,rank=300,encode=40,send_ns=1700"


def _recorder(*answers: Answer) -> Recorder:
    recorder = Recorder()
    for answer in answers:
        recorder(answer)
    return recorder


def _answer(tag: int, received_ns: int, status: int = 200, timing: bytes = HEADER) -> Answer:
    return Answer(tag, 1000, 1100, received_ns, status, b"", timing)


def test_header_is_read_by_name() -> None:
    stamps = stages.parse_timing(HEADER)
    assert stamps["recv_ns"] == 1300 and stamps["rank"] == 300 and stamps["send_ns"] == 1700
    assert stages.parse_timing(b"") == {}


def test_stages_and_residual_add_up_to_the_latency() -> None:
    found = stages.breakdown(_recorder(_answer(7, 2000)))
    by_name = dict(zip(stages.STAGES, found.stages_ns[0].tolist(), strict=True))
    assert by_name == {
        "client lag": 100,
        "network in": 200,
        **{"decode": 10, "lookup": 20, "wait": 0, "rank": 300, "encode": 40},
        "network out": 300,
    }
    assert found.latency_ns.tolist() == [1000] and found.tags.tolist() == [7]
    assert found.residual_ns.tolist() == [30]  # 400 in the server, 370 in its stages
    assert found.residual_share == pytest.approx(0.03)


def test_only_stamped_good_answers_count() -> None:
    recorder = _recorder(_answer(0, 2000), _answer(1, 2000, 503), _answer(2, 2000, timing=b""))
    assert stages.breakdown(recorder).tags.tolist() == [0]


def test_figures_end_with_sum_residual_and_latency() -> None:
    found = stages.breakdown(_recorder(_answer(0, 2000), _answer(1, 4000)))
    lines = {line.name: line for line in stages.figures(found)}
    assert list(lines)[-3:] == ["sum of the stages", "residual", "measured latency"]
    whole = lines["sum of the stages"].mean_us + lines["residual"].mean_us
    assert whole == pytest.approx(lines["measured latency"].mean_us) == pytest.approx(2.0)
    assert lines["network out"].share == pytest.approx(1300 / 2000)


def test_slowest_come_first() -> None:
    found = stages.breakdown(_recorder(_answer(0, 2000), _answer(1, 9000), _answer(2, 3000)))
    rows = stages.slowest_rows(found, 2)
    assert [row["request"] for row in rows] == [1, 2]
    assert rows[0]["latency"] == 8.0 and np.isclose(rows[0]["network out"], 7.3)

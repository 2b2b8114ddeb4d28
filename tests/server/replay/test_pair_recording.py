import numpy as np
from pair_cases import lists

from predawn.server.replay.pair_asks import asks_of
from predawn.server.replay.pair_recording import PairRecording, uses_of
from predawn.server.request import PairRows, Source, UserItems


def served(sources: list[Source], ages_ms: list[int]) -> PairRows:
    counts = np.bincount(sources, minlength=len(Source)).tolist()
    rows = np.array([[age, -1.5] for age in ages_ms], dtype=np.float32)
    return PairRows(rows, np.array(sources, np.uint8), np.array(ages_ms, np.int64), counts)


def test_a_reply_is_taken_down_in_its_place() -> None:
    recording = PairRecording(candidates=4, dim=2)
    recording.note(1, served([Source.DIRECT, Source.USER_MEAN], [7, 3]))
    assert recording.sources.tolist() == [Source.DEFAULT, Source.DIRECT, 4, Source.DEFAULT]
    assert recording.ages_ms.tolist() == [-1, 7, 3, -1]
    assert recording.rows.tolist() == [[0, 0], [7, -1.5], [3, -1.5], [0, 0]]


def test_each_computed_pair_counts_once_and_is_used_when_it_is_read_itself() -> None:
    trace = lists([(0, 7, [5]), (10, 7, [5, 6]), (30, 7, [5, 6]), (40, 8, [5])])
    recording = PairRecording(trace.rows, 2)
    direct, other = Source.DIRECT, Source.NEIGHBOUR
    recording.note(1, served([direct, other], [8, -1]))  # landed at 2
    recording.note(3, served([direct, direct], [28, 18]))  # at 2 again, and at 12
    recording.note(5, served([other], [-1]))
    done = [
        (2, [UserItems(7, np.array([5], np.uint64))]),
        (12, [UserItems(7, np.array([6, 5], np.uint64)), UserItems(8, np.array([5], np.uint64))]),
    ]
    uses = uses_of(trace, asks_of(trace), recording, done)
    assert (uses.computed, uses.used) == (4, 2)
    assert uses.lead_ms.tolist() == [8, 18]
    later = uses_of(trace, asks_of(trace, first=1), recording, done)
    assert (later.computed, later.used) == (3, 1)

import numpy as np

from predawn.server.replay.recording import Recording
from predawn.server.request import RankReply, Source, UserRow


def reply(row: UserRow, scores: list[float]) -> RankReply:
    return RankReply(
        order=np.arange(len(scores)),
        scores=np.array(scores, dtype=np.float32),
        users={"user": row},
        degraded=bool(row.reason),
    )


def test_a_reply_is_taken_down_in_its_place() -> None:
    recording = Recording(requests=3, candidates=5, dim=2)
    row = UserRow(Source.FAILOVER, 1200, np.array([1.5, -2], dtype=np.float32), 4, "timeout")
    recording.note(1, reply(row, [0.25, 0.75]), "user", 2, 5_000)
    assert recording.source.tolist() == [Source.DEFAULT, Source.FAILOVER, Source.DEFAULT]
    assert recording.age_ms.tolist() == [-1, 1200, -1]
    assert recording.failed.tolist() == [False, True, False]
    assert recording.took_ns.tolist() == [0, 5_000, 0]
    assert recording.rows.tolist() == [[0, 0], [1.5, -2], [0, 0]]
    assert recording.scores.tolist() == [0, 0, 0.25, 0.75, 0]


def test_since_leaves_the_whole_untouched() -> None:
    recording = Recording(requests=3, candidates=5, dim=2)
    recording.age_ms[:] = [1, 2, 3]
    part = recording.since(1)
    assert part.age_ms.tolist() == [2, 3] and len(part.rows) == 2
    assert recording.age_ms.tolist() == [1, 2, 3]

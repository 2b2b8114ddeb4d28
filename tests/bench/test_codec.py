"""What the codec suite times is the same work for all subjects."""

from predawn.bench import codec, harness

MARK = harness.Stamp("codec", "abc", "cpu x2")


def test_decode_encode_and_concat_are_held_against_peers() -> None:
    rows = codec.run(MARK, smoke=True, effort=harness.SMOKE)
    timed = {row.case: row for row in rows if row.metric == "time"}
    assert [case.split()[0] for case in timed] == [*["decode", "decode", "encode"] * 2, "concat"]
    assert all(row.peer and row.ratio and row.limit for row in timed.values())

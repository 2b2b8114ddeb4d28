"""The serve suite, small, on the real server: peers beside it, modes, and shared inferences."""

from predawn.bench import harness, serve

MARK = harness.Stamp("serve", "abc", "cpu x2")


def test_server_is_held_against_echoes_modes_and_sharing() -> None:
    rows = serve.run(MARK, smoke=True, effort=harness.SMOKE)
    found = {(row.case, row.metric, row.peer): row for row in rows}
    case = "rank 8 items, all direct"
    for peer in ("protocol", "aiohttp"):
        row = found[case, "cpu_per_request", peer]
        assert row.ratio and row.ratio > 0 and row.limit
        assert found[case, "p99", peer].value > 0
    assert found["soap against frozen, reference models", "p99", "frozen"].ratio
    assert found["soap against frozen, reference models", "inferences_behind", None].value > 0
    shared = found["two rankers over one user model", "inferences_per_user", None]
    assert shared.value == 1.0

"""The demo's figures add up and its picture shows them."""

import io

from rich.console import Console

from predawn.bench import demo_view
from predawn.bench.demo_pairs import PairAccount
from predawn.bench.demo_traffic import EVENTS_TAG
from predawn.bench.demo_view import Account, Tally
from predawn.bench.load import Answer

BODY = b'{"sources":{"user":{"sum":{"source":"%s","age_ms":1}}}}'
INFO = {
    "metrics": {
        "queue_depth": {"wait": 1, "refresh": 2},
        "events": 9,
        "models": {"sum": {"inferences": 3, "age_ms": {"p50": 1500.0, "p99": 1.0}}},
        "store": {"sum": {"entries": 4}},
    }
}


def _tally() -> Tally:
    tally = Tally()
    for i, source in enumerate((b"direct", b"direct", b"stale", b"default")):
        tally(Answer(i, 0, 10, 1_000_000 * (i + 1), 200, BODY % source, b""))
    tally(Answer(EVENTS_TAG, 0, 10, 5_000_000, 200, b"{}", b""))
    tally(Answer(EVENTS_TAG, 0, 10, 5_000_000, 429, b"{}", b""))
    tally(Answer(9, 0, 10, 5_000_000, 0, b"", b""))
    return tally


def test_sources_add_up_to_requests_and_errors_are_apart() -> None:
    found = demo_view.summary(_tally(), Account(inferences=3), seconds=2.0)
    assert found["requests"] == sum(found["sources"].values()) == 4
    assert found["errors"] == 2 and found["rps"] == 2.0
    assert (found["inferences"], found["inferences_saved"]) == (3, 1)
    assert 1.9 < found["p50_ms"] < 3.1 <= found["p99_ms"] + 1


def test_account_is_read_from_info() -> None:
    account = demo_view.account_of(INFO)
    assert account == Account(3, age_p50_ms=1500.0, queued=3, events=9, store_entries=4)


def test_picture_and_line_have_the_figures() -> None:
    out = io.StringIO()
    tally = _tally()
    Console(file=out, width=200).print(
        demo_view.table(tally, Account(3, 1500.0, 3), 2.0, "caption")
    )
    for said in ("served direct", "50%", "1.5 s", "rank 0: 1", "events 429: 1", "caption"):
        assert said in out.getvalue(), said
    assert "4 requests, 2 errors" in demo_view.line(tally, Account(), 2.0)


def test_nothing_yet_is_shown_as_zero() -> None:
    found = demo_view.summary(Tally(), Account(), 0.0)
    assert found["rps"] == found["p99_ms"] == 0
    assert found["pairs"] == {}
    demo_view.table(Tally(), Account(), 0.0, "")


def test_pairs_have_their_part_of_picture_line_and_summary() -> None:
    out = io.StringIO()
    account = Account(pairs={"fm": PairAccount("fm", {"direct": 3, "default": 1}, issued=9)})
    Console(file=out, width=200).print(demo_view.table(_tally(), account, 2.0, ""))
    assert "pairs, exact" in out.getvalue() and "75%" in out.getvalue()
    assert "exact 75%" in demo_view.line(_tally(), account, 2.0)
    assert demo_view.summary(_tally(), account, 2.0)["pairs"]["fm"]["issued"] == 9


def test_a_small_terminal_sees_every_figure() -> None:
    sources = {"direct": 3, "user_mean": 2, "neighbour": 1, "default": 1}
    account = Account(pairs={"fm": PairAccount("fm", sources, issued=9)})

    def printed(rows: int | None) -> list[str]:
        out = io.StringIO()
        Console(file=out, width=80).print(demo_view.table(_tally(), account, 2.0, "it ends", rows))
        return out.getvalue().splitlines()

    assert len(printed(24)) < 24 < len(printed(None))
    for said in ("requests", "pairs, default", "price"):
        assert any(said in line for line in printed(24))
    assert any("it ends" in line for line in printed(None))

from io import StringIO

from replay_cases import day, replayed, visits
from rich.console import Console

from predawn.server.replay import ReplayReport
from predawn.server.replay.tables import tables


def text(report: ReplayReport) -> str:
    console = Console(file=StringIO(), width=160)
    for table in tables(report):
        console.print(table)
    stream = console.file
    assert isinstance(stream, StringIO)
    return stream.getvalue()


def test_the_tables_show_replay_comparison_and_oracle() -> None:
    report = replayed(
        day().slice(0, 200), mode="ercache", failure_rate=0.1, oracle=True, compare_modes=True
    )
    shown = text(report)
    for words in (
        "200 requests",
        "frozen",
        "soap_ttl",
        "default without a store",
        "direct_hit",
        "asked again",
    ):
        assert words in shown
    assert f"{report.models['user'].direct_hit_rate:.3%}" in shown


def test_a_trace_without_clicks_shows_no_loss() -> None:
    shown = text(replayed(visits([(0, 1), (1_000, 1)])))
    assert " - " in shown and "oracle" not in shown

from io import StringIO

from replay_cases import day, replayed
from rich.console import Console

from predawn.server.replay import PairOptions, ReplayReport
from predawn.server.replay.pair_tables import pair_tables


def text(report: ReplayReport) -> str:
    stream = StringIO()
    console = Console(file=stream, width=160)
    for table in pair_tables("fm", report.pairs["fm"]):
        console.print(table)
    return stream.getvalue()


def test_the_tables_show_coverage_loss_rivals_and_calibration() -> None:
    options = PairOptions(capacity=4096, baselines=True, budgets=(0.25,))
    report = replayed(day().slice(0, 300), pairs=options)
    shown, found = text(report), report.pairs["fm"]
    for words in ("predictor learned", "user_mean", "as served", "every pair fresh", "distilled",
                  "last 10", "oracle: same candidates", "calibration", "0.25"):  # fmt: skip
        assert words in shown, words
    assert f"{found['coverage_exact']:.2%}" in shown
    assert f"{found['curve'][0]['coverage_exact']:.2%}" in shown
    assert f"{found['oracle_share']['same candidates']:.1%}" in shown


def test_a_log_without_clicks_shows_no_loss() -> None:
    report = replayed(day().slice(0, 60), pairs=PairOptions(capacity=4096, predictor="none"))
    report.pairs["fm"]["loss"] = None
    shown = text(report)
    assert "ranking loss" not in shown and "calibration" not in shown and " - " in shown

"""A replayed model of pairs for people: tables in the terminal."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from predawn.server.replay.ages import age_text


def pair_tables(name: str, report: dict[str, Any]) -> Iterator[Table]:
    """What was served, what it kept of the ranking loss, how it compares, the predictor's word."""
    yield _budgets(name, report)
    yield _sources(report)
    if report["loss"] is not None:
        yield _kept(report)
    if "baselines" in report:
        yield _compared(report)
    if report["calibration"]:
        yield _calibration(report)


def _budgets(name: str, report: dict[str, Any]) -> Table:
    title = (
        f"pairs of {name}, predictor {report['predictor']}: {report['asked']:,} asked for after "
        f"the first {report['warm_up']:.0%} of the time"
    )
    table = Table(
        "budget", "used", "exact", "with fills", "waste", "lead p50", "age p50", "gain kept",
        title=title, title_justify="left",
    )  # fmt: skip
    for each in [report, *report.get("curve", ())]:
        loss = each["loss"]
        table.add_row(
            f"{each['budget']:g}",
            f"{each['budget_used']:.3f}",
            f"{each['coverage_exact']:.2%}",
            f"{each['coverage_with_fills']:.2%}",
            f"{each['waste']:.1%}",
            age_text(each["lead_ms"]["p50"]),
            age_text(each["age_at_use_ms"]["p50"]),
            _share(None if loss is None else loss["kept"]),
        )
    return table


def _sources(report: dict[str, Any]) -> Table:
    table = Table("source", "pairs", "share", "gain kept", title="pairs", title_justify="left")
    levels = (report["loss"] or {}).get("levels", {})
    for source, count in report["sources"].items():
        if count:
            kept = levels.get(source, {}).get("kept")
            table.add_row(source, f"{count:,}", f"{count / report['asked']:.2%}", _share(kept))
    return table


def _kept(report: dict[str, Any]) -> Table:
    """Ranking losses, 1: the click rate alone."""
    table = Table("ranker", "ranking loss", "gain kept", title="ranking", title_justify="left")
    loss = report["loss"]
    table.add_row("without pairs", f"{loss['no_fm']:.4f}", _share(0.0))
    table.add_row("as served", f"{loss['served']:.4f}", _share(loss["kept"]))
    for name, each in report.get("distillation", {}).items():
        table.add_row(name, f"{each['served']:.4f}", _share(each["kept"]))
    table.add_row("every pair fresh", f"{loss['fm']:.4f}", _share(1.0))
    return table


def _compared(report: dict[str, Any]) -> Table:
    """Under each budget: the replay, plain rules, and the share reached of each oracle."""
    table = Table(
        "budget", "rule", "used", "exact", "waste", "gain kept", "share reached",
        title="compared, by plain dictionaries", title_justify="left",
    )  # fmt: skip
    for each in [report, *report.get("curve", ())]:
        budget = f"{each['budget']:g}"
        for name, rule in each["baselines"].items():
            used, waste = f"{rule['budget_used']:.3f}", f"{rule['waste']:.1%}"
            covered = f"{rule['coverage_exact']:.2%}"
            table.add_row(budget, name, used, covered, waste, _share(rule.get("kept")), "")
        for name, oracle in each["oracles"].items():
            used, covered = f"{oracle['budget_used']:.3f}", f"{oracle['coverage_exact']:.2%}"
            reached = _share(each["oracle_share"][name])
            table.add_row(budget, f"oracle: {name}", used, covered, "", "", reached)
    return table


def _calibration(report: dict[str, Any]) -> Table:
    error, brier = _number(report["ece"]), _number(report["brier"])
    title = f"calibration: expected error {error}, Brier score {brier}"
    table = Table("chance said", "came true", "weight", title=title, title_justify="left")
    for each in report["calibration"]:
        if each["weight"]:
            said, came = _number(each["said"]), _number(each["came"])
            table.add_row(said, came, f"{each['weight']:,.0f}")
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"

"""The report for people: tables in the terminal."""

from rich.table import Table

from predawn.server.replay.ages import age_text
from predawn.server.replay.pair_tables import pair_tables
from predawn.server.replay.report import ModelReport, ReplayReport

_COLUMNS = (
    "mode",
    "inferences",
    "saved",
    "direct",
    "default",
    "age mean",
    "age p50",
    "age p99",
    "latency p99",
    "ranking loss",
)


def tables(report: ReplayReport) -> list[Table]:
    """What was replayed, the comparison and the oracle, as far as asked for."""
    title = (
        f"{report.requests:,} requests of {report.users:,} users, "
        f"{report.virtual_s / 3600:.1f} h replayed in {report.wall_s:.1f} s"
    )
    found = [_modes({model.mode: model for model in report.models.values()}, title)]
    found += [_sources(model) for model in report.models.values()]
    if report.compare:
        found.append(_modes(report.compare, "ways to serve (ranking loss: 1 = click rate alone)"))
    if report.oracle is not None:
        found.append(_oracle(report))
    for name, pairs in report.pairs.items():
        found += pair_tables(name, pairs)
    return found


def _modes(models: dict[str, ModelReport], title: str) -> Table:
    table = Table(*_COLUMNS, title=title, title_justify="left")
    for name, model in models.items():
        loss = model.loss["normalised_entropy"]
        table.add_row(
            name,
            f"{model.inferences:,}",
            f"{model.inferences_saved_share:.1%}",
            f"{model.direct_hit_rate:.1%}",
            f"{model.fallbacks_per_request:.2%}",
            age_text(model.age_ms["mean"]),
            age_text(model.age_ms["p50"]),
            age_text(model.age_ms["p99"]),
            f"{model.latency_ms['p99']:.1f} ms",
            "-" if loss is None else f"{loss:.4f}",
        )
    return table


def _sources(model: ModelReport) -> Table:
    table = Table("source", "requests", "share")
    total = sum(model.sources.values())
    for source, count in model.sources.items():
        if count:
            table.add_row(source, f"{count:,}", f"{count / total:.2%}")
    if model.retries:
        table.add_row("asked again", f"{model.retries:,}", f"{model.retries / total:.2%}")
    without = model.fallbacks_per_request_without_store
    if without is not None:
        table.add_row("default without a store", "", f"{without:.2%}")
    return table


def _oracle(report: ReplayReport) -> Table:
    """The server's figures beside those of plain dictionaries."""
    table = Table("figure", "replay", "oracle", title="oracle", title_justify="left")
    model = next(iter(report.models.values()))
    assert report.oracle is not None
    for name in ("direct_hit_rate", "fallbacks_per_request", "fallbacks_per_request_without_store"):
        measured, expected = getattr(model, name), report.oracle.get(name)
        if measured is not None and expected is not None:
            table.add_row(name, f"{measured:.3%}", f"{expected:.3%}")
    if "retries_per_request" in report.oracle:
        asked, expected = model.retries / model.requests, report.oracle["retries_per_request"]
        table.add_row("retries_per_request", f"{asked:.3%}", f"{expected:.3%}")
    if "in_flight" in report.oracle:
        share = report.oracle["in_flight"]
        table.add_row("of which joined a compute", "", f"{share:.3%}")
    for ttl, rate in report.oracle["hit_rate"].items():
        table.add_row(f"direct hits at {ttl}", "", f"{rate:.3%}")
    return table

"""Training on what serving saw: better under serving's coverage, warm or new, and served."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_cases import small_trace
from training_log_cases import LAYOUT, outcomes, read_log, served, write_log

from predawn.server.errors import ConfigError
from predawn.server.models.loading import RANKER_FILE, TOWER_FILE, ModelSource, load_ranker
from predawn.server.models.snapshots import load_snapshot
from predawn.server.models.training import train
from predawn.server.models.training_log import LogTrainReport, train_from_log
from predawn.server.models.training_log_labels import Join, joined_labels
from predawn.server.models.training_metrics import normalised_entropy
from predawn.server.request import PairRows, RankReply, RankRequest, Source, UserRow
from predawn.server.served_log_columns import Layout, RankerInputs, Seen
from predawn.server.traces_data import TraceError

HOUR = Join(3_600_000)
EXACT = served(500, exact=True)
TRACE = outcomes(EXACT)


def trained(directory: Path, out: Path, **options: Any) -> LogTrainReport:
    defaults: dict[str, Any] = {
        "holdout": 0.2,
        "seed": 0,
        "join": HOUR,
        "epochs": 4,
        "size": "tiny",
    }
    return train_from_log(directory, TRACE, out=out, **(defaults | options))


def test_a_ranker_of_the_log_does_better_under_serving_s_coverage_than_one_of_exact_pairs(
    tmp_path: Path,
) -> None:
    covered = write_log(tmp_path / "covered", served(500))
    exact = write_log(tmp_path / "exact", EXACT)
    later = served(400, seed=5)
    rows = read_log(write_log(tmp_path / "later", later))
    after = outcomes(served(400, seed=5, exact=True), seed=6)
    labels = joined_labels(rows, after, after.labels["click"][:, None], HOUR)[:, 0]
    loss: dict[str, float] = {}
    for name, log in {"covered": covered, "exact": exact}.items():
        report = trained(log, tmp_path / f"{name}-snapshots", holdout=0.0, epochs=20)
        ranker = load_ranker(ModelSource("rankers.ctr", str(report.snapshot)))
        scores = ranker.score(rows.batch())
        found = normalised_entropy(labels, scores[:, 0])
        assert found is not None
        loss[name] = found
    assert loss["covered"] < 0.93 and loss["covered"] < loss["exact"] - 0.03


def test_the_report_says_what_was_learned_from_and_how_the_served_scores_did(
    tmp_path: Path,
) -> None:
    log = write_log(tmp_path / "log", served(300))
    stages: list[tuple[str, float]] = []
    options = {"max_rows": 1000, "on_progress": lambda stage, share: stages.append((stage, share))}
    report = trained(log, tmp_path / "s", **options)
    assert (report.ranker, report.requests, report.rows, report.labelled) == (
        *("ctr", 200),
        *(1000, 1000),
    )
    served_figures = report.figures["served"]
    assert served_figures["normalised_entropy"] > report.figures["normalised_entropy"]
    assert {stage for stage, _ in stages} == {"reading the log", "training", "measuring"}
    meta = load_snapshot(report.snapshot).section("training")
    assert meta["from_log"] is True and meta["resumed"] is None


def test_the_same_log_and_seed_give_the_same_weights(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", served(100))
    weights = [
        load_snapshot(trained(log, tmp_path / "s", epochs=1, seed=seed).snapshot).read(RANKER_FILE)
        for seed in (3, 3, 4)
    ]
    for name, values in weights[0].items():
        np.testing.assert_array_equal(values, weights[1][name])
    assert (weights[0]["mlp"] != weights[2]["mlp"]).any()


def of_trace(snapshot: Path) -> tuple[list[Seen], Layout]:
    """A log of a small trace, of a ranker that reads the tower of a snapshot."""
    trace, rng = small_trace(300, seed=2), np.random.default_rng(0)
    dim = int(load_snapshot(snapshot).section("user_tower")["dim"])
    inputs = RankerInputs(("sum",), (), ("click", "like"), ("parity",))
    seen: list[Seen] = []
    for number in range(len(trace)):
        rows = slice(int(trace.offsets[number]), int(trace.offsets[number + 1]))
        scores = np.full((rows.stop - rows.start, 2), 0.5, np.float32)
        request = RankRequest(
            trace.user(number), trace.items[rows], trace.item_features[rows], "ctr", 0, 0
        )
        row = UserRow(Source.DIRECT, 5, rng.normal(size=dim).astype(np.float32), 1)
        order = np.arange(len(scores))
        reply = RankReply(order, scores[:, 0], {"sum": row}, False, scores, ("click", "like"))
        seen.append(Seen(int(trace.t_ms[number]), 1, request, reply))
    return seen, Layout({"ctr": inputs}, {"sum": dim}, {}, "fp16")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("snapshots")
    train(small_trace(300, seed=1), out=out, holdout=0.2, seed=0, epochs=1, size="tiny")
    return out


def test_a_resumed_ranker_learns_on_and_the_tower_goes_along_as_it_is(
    snapshot: Path, tmp_path: Path
) -> None:
    seen, layout = of_trace(snapshot)
    log = write_log(tmp_path / "log", seen, layout)
    report = train_from_log(
        log, small_trace(300, seed=2), out=tmp_path / "s", holdout=0.2, seed=0, join=HOUR,
        resume=snapshot,
    )  # fmt: skip
    before, after = load_snapshot(snapshot), load_snapshot(report.snapshot)
    for name, tensor in before.read(TOWER_FILE).items():
        np.testing.assert_array_equal(tensor, after.read(TOWER_FILE)[name])
    old, new = before.read(RANKER_FILE), after.read(RANKER_FILE)
    for name in ("embedding", "encoding.low", "statistics.mean"):
        np.testing.assert_array_equal(old[name], new[name])
    moved = np.abs(new["mlp"] - old["mlp"]).mean()
    assert 0 < moved < 0.1 and (old["items.counts"].sum() != new["items.counts"].sum())
    assert after.section("training")["resumed"] == 1
    assert after.section("user_tower") == before.section("user_tower")
    assert set(report.figures["auc"]) == {"click", "like"}
    assert load_ranker(ModelSource("rankers.ctr", str(tmp_path / "s"))).tasks == ("click", "like")


def test_a_snapshot_whose_ranker_reads_something_else_is_refused(
    snapshot: Path, tmp_path: Path
) -> None:
    seen, layout = of_trace(snapshot)
    changed = Layout(layout.rankers, {"sum": 3}, {}, "fp16")
    for each in seen:
        each.reply.users["sum"].row = np.zeros(3, np.float32)
    log = write_log(tmp_path / "log", seen, changed)
    with pytest.raises(ConfigError, match=r"resume: its ranker reads \d+ values .* logged one 3"):
        train_from_log(
            log, small_trace(300, seed=2), out=tmp_path / "s", holdout=0.2, seed=0, join=HOUR,
            resume=snapshot,
        )  # fmt: skip
    assert not (tmp_path / "s").exists()


def test_a_broken_row_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    seen = served(40)
    rows = seen[31].reply.pairs["fm"]
    broken = np.full_like(rows.rows, np.inf)
    seen[31].reply.pairs["fm"] = PairRows(broken, rows.sources, rows.ages_ms, [])
    log = write_log(tmp_path / "log", seen)
    with pytest.raises(TraceError, match=r"served-0.*:12: pairs.fm.embeddings has a value that"):
        trained(log, tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"holdout": 0.95}, "holdout"),
        ({"ranker": "other"}, "no ranker 'other'"),
        ({"size": "huge"}, "size"),
        ({"join": Join(0)}, ""),
    ],
)
def test_what_cannot_be_is_a_line(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    log = write_log(tmp_path / "log", served(40))
    if said:
        with pytest.raises((ConfigError, TraceError), match=said):
            trained(log, tmp_path / "s", **options)
    else:  # a window of nothing still holds what came with the request
        assert trained(log, tmp_path / "s", **options).labelled == 200


def test_a_trace_of_other_users_is_no_trace_of_the_log(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", served(40))
    other = small_trace(50)
    with pytest.raises(ConfigError, match="no event of any logged row"):
        train_from_log(log, other, out=tmp_path, holdout=0.2, seed=0, join=HOUR)


def test_the_layout_of_these_tests_is_one_of_a_server() -> None:
    assert LAYOUT.names("tasks") == ("click",)

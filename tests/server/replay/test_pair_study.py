import json

from replay_cases import day, replayed

from predawn.server.replay import PairOptions


def test_everything_that_is_compared_is_there_and_below_the_oracle() -> None:
    options = PairOptions(capacity=20_000, fills=(), baselines=True, budgets=(0.3, 0.6))
    report = replayed(day().slice(0, 700), pairs=options)
    found = json.loads(json.dumps(report.document()))["pairs"]["fm"]
    assert found["warm_up"] > 0.24 and found["oracle_share"]["same candidates"] < 1
    assert [each["budget"] for each in found["curve"]] == [0.3, 0.6]
    names = {"no speculation", "last list", "last 3", "last 10", "ranker score"}
    for each in [found, *found["curve"]]:
        assert set(each["baselines"]) == names
        best = each["oracles"]["clairvoyant"]["coverage_exact"]
        assert each["coverage_exact"] <= best <= 1
        for rule in each["baselines"].values():
            assert rule["coverage_exact"] <= best and rule["kept"] <= 1
            assert rule["fm_pairs_computed"] <= 1.05 * each["budget"] * each["asked"]
    assert set(found["distillation"]) == {"distilled", "distilled, given the user's vector"}
    assert found["own_history"]["any"] < 0.5


def test_without_baselines_there_are_none() -> None:
    found = replayed(day().slice(0, 100), pairs=PairOptions(capacity=4096)).pairs["fm"]
    assert not {"baselines", "oracles", "distillation", "curve"} & set(found)


def test_without_pairs_there_are_no_figures_of_pairs() -> None:
    assert "pairs" not in replayed(day().slice(0, 60)).document()

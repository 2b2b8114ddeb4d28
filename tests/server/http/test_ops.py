"""The GET routes for operators."""

from http_rig import GOOD, Rig, run
from prometheus_client.parser import text_string_to_metric_families

from predawn.server.http.gate import Phase
from predawn.server.http.ops import summary


def test_live_stays_and_ready_goes_with_the_phase() -> None:
    async def test(it: Rig) -> None:
        for phase, status, word in (
            (Phase.SERVING, 200, "ready"),
            (Phase.LEAVING, 503, "leaving"),
            (Phase.DRAINING, 503, "draining"),
        ):
            it.gate.advance(phase)
            assert (await it.client.get("/livez")).json == {"status": "live"}
            ready = await it.client.get("/readyz")
            assert (ready.status, ready.json) == (status, {"status": word})

    run(test)


def test_metrics_are_prometheus_text_with_the_requests() -> None:
    async def test(it: Rig) -> None:
        await it.client.post("/v1/rank", GOOD)
        answer = await it.client.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
        (sample,) = families["predawn_requests"].samples
        assert (sample.labels, sample.value) == ({"ranker": "ctr", "code": "200"}, 1.0)

    run(test)


def test_version_names_the_program() -> None:
    async def test(it: Rig) -> None:
        assert (await it.client.get("/version")).json == {"name": "predawn", "version": "1.2.3"}

    run(test)


def test_info_says_what_is_served_and_what_it_counted() -> None:
    async def test(it: Rig) -> None:
        await it.client.post("/v1/rank", GOOD)
        info = (await it.client.get("/info")).json
        assert info["models"]["fresh"] == {"snapshot": 3, "mode": "soap"}
        assert info["models"]["blank"]["snapshot"] == 0
        assert list(info["rankers"]) == ["ctr", "watch"]
        assert info["rankers"]["ctr"] == {
            "snapshot": 4,
            "user_models": ["fresh", "blank"],
            "pair_models": [],
            "tasks": ["click", "like"],
            "item_features": ["price", "age"],
        }
        assert info["metrics"]["requests"] == 1
        assert info["in_flight"] == 0
        assert info["config"]["http"]["timeout"] == 5_000

    run(test)


def test_the_summary_keeps_paths_and_options_to_itself() -> None:
    async def test(it: Rig) -> None:
        told = summary(it.services.config)
        assert "path" not in told["history"]  # type: ignore[operator]
        for section in ("models", "rankers"):
            for each in told[section].values():  # type: ignore[attr-defined]
                assert not {"snapshot", "factory", "options"} & set(each)

    run(test)

"""POST /v1/hint and /v1/invalidate: what they do, and every way to ask them wrongly."""

import numpy as np
import pytest
from http_rig import Rig, run

from predawn.server.cache import UserCache
from predawn.server.request import UserId

BAD_USERS = [
    (b"", "", "malformed JSON"),
    (b"[1]", "", "must be an object"),
    (b'{"users":[1]', "", "malformed JSON"),
    (b'{"users":[NaN]}', "", "NaN is no number"),
    (b'{"users":[1],"users":[2]}', "", "a member comes twice"),
    (b"\xff", "", "malformed JSON"),
    (b"[" * 100_000, "", "malformed JSON"),
    (b"{}", "users", "is missing"),
    (b'{"users":null}', "users", "is missing"),
    (b'{"users":7}', "users", "must be an array"),
    (b'{"users":[]}', "users", "1 to 3 users (http.events_limit), got 0"),
    (b'{"users":[1,2,3,4]}', "users", "got 4"),
    (b'{"user":[1]}', "user", "did you mean 'users'?"),
    (b'{"users":[1,-1]}', "users[1]", "from 0 to 2^64 - 1"),
    (b'{"users":[18446744073709551616]}', "users[0]", "from 0 to 2^64 - 1"),
    (b'{"users":[1' + b"0" * 4000 + b"]}", "users[0]", "from 0 to 2^64 - 1"),
    (b'{"users":[1' + b"0" * 5000 + b"]}", "", "malformed JSON"),
    (b'{"users":[1.0]}', "users[0]", "must be an id"),
    (b'{"users":[true]}', "users[0]", "must be an id"),
    (b'{"users":[null]}', "users[0]", "must be an id"),
    (b'{"users":[""]}', "users[0]", "must be an id"),
    (b'{"users":["' + b"x" * 257 + b'"]}', "users[0]", "must be an id"),
    (b'{"users":["\\ud800"]}', "users[0]", "surrogate"),
]


@pytest.mark.parametrize("path", ["/v1/hint", "/v1/invalidate"])
@pytest.mark.parametrize(("body", "field", "reason"), BAD_USERS)
def test_bad_users_are_400(path: str, body: bytes, field: str, reason: str) -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post(path, body)
        assert answer.error[:3] == (400, "bad_request", field)
        assert reason in answer.error[3]
        assert not it.script.hinted

    run(test, events_limit=3)


def test_hints_reach_the_refresher_once_a_user() -> None:
    async def test(it: Rig) -> None:
        answer = await it.client.post("/v1/hint", '{"users":[1,"1","é",1]}'.encode())
        assert it.script.hinted == [1, "1", "é"]
        assert answer.json == {"scheduled": 6}

    run(test)


def store(it: Rig) -> UserCache:
    assert isinstance(it.services.cache, UserCache)
    return it.services.cache


def land(it: Rig, model: str, users: list[UserId]) -> None:
    store(it).land(model, users, np.ones((len(users), 2), np.float32), 1)


def present(it: Rig, model: str, users: list[UserId]) -> list[bool]:
    reading = store(it).read(model, users, 60_000)
    return [bool(age >= 0) for age in reading.ages_ms]


def test_invalidate_forgets_users_in_all_models() -> None:
    async def test(it: Rig) -> None:
        for model in ("fresh", "blank"):
            land(it, model, [1, 2])
        answer = await it.client.post("/v1/invalidate", b'{"users":[1,3,"1"]}')
        assert answer.json == {"removed": 2}
        assert present(it, "fresh", [1, 2]) == present(it, "blank", [1, 2]) == [False, True]

    run(test)


def test_invalidate_forgets_users_in_the_models_named() -> None:
    async def test(it: Rig) -> None:
        for model in ("fresh", "blank"):
            land(it, model, [1])
        answer = await it.client.post("/v1/invalidate", b'{"users":[1],"models":["fresh"]}')
        assert answer.json == {"removed": 1}
        assert (present(it, "fresh", [1]), present(it, "blank", [1])) == ([False], [True])

    run(test)


@pytest.mark.parametrize(
    ("models", "status", "field", "reason"),
    [
        (b'["frsh"]', 404, "models[0]", "did you mean 'fresh'?"),
        (b'["fresh","7"]', 404, "models[1]", "unknown name '7'"),
        (b'["fresh",7]', 400, "models[1]", "must be a name"),
        (b'["' + b"x" * 65 + b'"]', 400, "models[0]", "at most 64 letters"),
        (b"[]", 400, "models", "leave it out"),
        (b'"fresh"', 400, "models", "must be an array"),
    ],
)
def test_bad_models_are_refused_and_nothing_is_removed(
    models: bytes, status: int, field: str, reason: str
) -> None:
    async def test(it: Rig) -> None:
        land(it, "fresh", [1])
        answer = await it.client.post("/v1/invalidate", b'{"users":[1],"models":' + models + b"}")
        assert (answer.error[0], answer.error[2]) == (status, field)
        assert reason in answer.error[3]
        assert present(it, "fresh", [1]) == [True]

    run(test)

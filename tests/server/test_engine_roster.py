"""Live, staged and previous versions: all or none, and one reference a batch."""

import gc
import weakref

import pytest
from engine_cases import Scaled, Sums

from predawn.server.engine import ModelVersions
from predawn.server.engine_roster import Held, Roster
from predawn.server.errors import ConfigError


def roster(*names: str) -> Roster:
    made = Roster()
    for name in names:
        made.hold(name, Held(Scaled(), 1))
    return made


def test_a_swap_and_a_rollback_turn_the_three_places() -> None:
    held = roster("a")
    assert held.versions() == {"a": ModelVersions(1)}
    held.stage("a", Held(Scaled(), 2))
    assert held.versions() == {"a": ModelVersions(1, staged=2)}
    assert held.swap(["a"]) == {"a": 2}
    assert held.versions() == {"a": ModelVersions(2, previous=1)}
    held.stage("a", Held(Scaled(), 3))
    assert held.versions() == {"a": ModelVersions(2, 3, 1)}
    assert held.rollback(["a"]) == {"a": 1}
    assert held.versions() == {"a": ModelVersions(1, staged=2)}
    assert held.swap(["a"]) == {"a": 2}


@pytest.mark.parametrize("turn", ["swap", "rollback"])
def test_several_names_turn_together_or_not_at_all(turn: str) -> None:
    held = roster("a", "b")
    held.stage("a", Held(Scaled(), 2))
    held.keep("a", Held(Scaled(), 9))
    before = held.versions()
    wanted = "staged" if turn == "swap" else "previous"
    with pytest.raises(ConfigError, match=f"b: has no {wanted} version"):
        getattr(held, turn)(["a", "b"])
    with pytest.raises(ConfigError, match="c: has no"):
        getattr(held, turn)(["a", "c"])
    assert held.versions() == before
    (held.stage if turn == "swap" else held.keep)("b", Held(Scaled(), 5))
    assert getattr(held, turn)(["a", "b"]) == {"a": 2 if turn == "swap" else 9, "b": 5}


def test_what_is_staged_can_be_discarded() -> None:
    held = roster("a", "b")
    held.stage("a", Held(Scaled(), 2))
    held.discard(["a", "b", "c"])
    assert held.versions() == {"a": ModelVersions(1), "b": ModelVersions(1)}


def test_what_is_live_is_read_once_and_stays() -> None:
    held = roster("a")
    begun = held.live("a")
    held.stage("a", Held(Scaled(), 2))
    held.swap(["a"])
    assert (begun.version, held.live("a").version) == (1, 2)
    with pytest.raises(KeyError):
        held.live("b")


def test_what_falls_out_is_freed_when_told_to_and_not_before() -> None:
    held, oldest = Roster(), Scaled()
    seen = weakref.ref(oldest)
    held.hold("a", Held(oldest, 1))
    del oldest
    for version in (2, 3):
        held.stage("a", Held(Scaled(), version))
        held.swap(["a"])
    gc.collect()
    assert seen() is not None
    held.forget()
    gc.collect()
    assert seen() is None


def test_pair_models_that_keep_histories_say_so() -> None:
    held = roster("a")
    held.hold("fm", Held(Sums(), 1))
    assert held.kept() == {"fm": {"users": 7, "tokens_encoded": 11}}
    assert held.names() == ("a", "fm")


def test_what_is_no_count_of_kept_histories_is_not_told() -> None:
    class Other(Scaled):
        def kept(self, wrong: int) -> None: ...

    held = Roster()
    held.hold("m", Held(Other(), 1))
    assert held.kept() == {"m": {}}


def test_a_version_kept_to_go_back_to_does_not_replace_a_newer_one() -> None:
    held = roster("a")
    held.stage("a", Held(Scaled(), 2))
    held.swap(["a"])
    held.keep("a", Held(Scaled(), 9))
    assert held.versions() == {"a": ModelVersions(2, previous=1)}

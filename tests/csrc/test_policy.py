"""The eviction policy chooses what its naive twin chooses, whatever the tags say."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_twin import CAUSES, WAYS, Choice, Newcomer, Rule, Way, choose

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
FULL = Way(valid=True, demanded=True)


@dataclass(frozen=True, slots=True)
class Case:
    """A set and a newcomer. expired: ways whose slots are too old; orders: of their writing."""

    tags: list[int]
    hand: int
    newcomer: Newcomer
    expired: frozenset[int]
    orders: list[int]

    def line(self) -> str:
        """As the native program reads it."""
        asks = self.newcomer
        mask = sum(1 << way for way in self.expired)
        words = [*self.tags, self.hand, asks.speculative, asks.quota, asks.rule == "sieve"]
        words += [asks.now_stamp, asks.any_reader, mask, *self.orders]
        return " ".join(str(int(word)) for word in words)

    def by_twin(self) -> tuple[Choice, set[int]]:
        """The twin's choice, and the ways whose slots it verified."""
        verified: set[int] = set()

        def is_expired(way: int) -> bool:
            verified.add(way)
            return way in self.expired

        ways = [Way.of_tag(word) for word in self.tags]
        return choose(
            ways, self.hand, self.newcomer, is_expired, lambda w: self.orders[w]
        ), verified


def tags(valid: st.SearchStrategy[bool]) -> st.SearchStrategy[int]:
    """Tags with any hints and stamp; slot, version and fingerprint do not matter."""
    hints = st.sampled_from([0, 2, 4, 8, 8, 8, 10, 10, 12, 12, 14, 14])
    stamps = st.integers(0, 15)
    return st.builds(lambda v, h, stamp: v | h | 0xABCDEF0 | stamp << 28, valid, hints, stamps)


def cases(valid: st.SearchStrategy[bool]) -> st.SearchStrategy[Case]:
    rules: list[Rule] = ["clock", "sieve"]
    newcomers = st.builds(
        Newcomer,
        st.booleans(),
        st.integers(0, WAYS),
        st.sampled_from(rules),
        st.integers(0, 15),
        st.booleans(),
    )
    near_wrap = st.integers(2**32 - 50, 2**32 + 50).map(lambda order: order % 2**32)
    return st.builds(
        Case,
        st.lists(tags(valid), min_size=WAYS, max_size=WAYS),
        st.integers(0, 15),
        newcomers,
        st.frozensets(st.integers(0, WAYS - 1)),
        st.lists(near_wrap, min_size=WAYS, max_size=WAYS, unique=True),
    )


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], str]]:
    """Puts a case to the native policy: the words of its answer."""
    binary = tmp_path_factory.mktemp("policy") / "choices"
    flags = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", f"-I{CSRC}"]
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, *flags, HERE / "policy_choices.cpp", "-o", binary], check=True)
    with subprocess.Popen(
        [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as program:
        assert program.stdin is not None and program.stdout is not None
        to, out = program.stdin, program.stdout

        def answer(case: Case) -> str:
            to.write(case.line() + "\n")
            return out.readline().strip()

        yield answer
        to.close()
        assert program.wait(timeout=10) == 0


def words_of(choice: Choice, verified: set[int]) -> str:
    """The twin's answer as the native program would put it."""

    def mask(ways: frozenset[int] | set[int]) -> int:
        return sum(1 << way for way in ways)

    hints = [mask(choice.unvisit), mask(choice.survive), mask(choice.renew), mask(verified)]
    words = [choice.way, choice.hand, CAUSES.index(choice.cause), *hints]
    return " ".join(map(str, words))


@settings(max_examples=1500, deadline=None)
@given(case=cases(st.just(True)))
def test_full_set_is_judged_as_by_the_twin(ask: Callable[[Case], str], case: Case) -> None:
    assert ask(case) == words_of(*case.by_twin())


@settings(max_examples=300, deadline=None)
@given(case=cases(st.booleans()))
def test_any_set_is_judged_as_by_the_twin(ask: Callable[[Case], str], case: Case) -> None:
    assert ask(case) == words_of(*case.by_twin())


def never(_: int) -> bool:
    return False


def test_twin_takes_an_empty_way_before_an_expired_one() -> None:
    ways = [FULL] * 5 + [Way()] + [FULL] * 8
    newcomer = Newcomer(now_stamp=9, any_reader=True)
    assert choose(ways, 0, newcomer, lambda _: True, int).way == 5
    assert choose([FULL] * WAYS, 3, newcomer, lambda _: True, int).cause == "expired"


def test_twin_verifies_two_ways_at_most() -> None:
    asked: list[int] = []

    def is_expired(way: int) -> bool:
        asked.append(way)
        return False

    choose([FULL] * WAYS, 12, Newcomer(now_stamp=9, any_reader=True), is_expired, int)
    assert asked == [12, 13]


def test_twin_keeps_speculation_within_its_quota() -> None:
    speculative = Way(valid=True)
    ways = [speculative, speculative, *[FULL] * 12]
    orders = [7, 5, *range(12)]
    for_speculation = choose(ways, 0, Newcomer(True, 2), never, orders.__getitem__)
    assert (for_speculation.way, for_speculation.cause) == (1, "quota")
    within = choose(ways, 0, Newcomer(True, 3), never, orders.__getitem__)
    assert (within.way, within.cause) == (2, "hand_by_speculative")
    demanded = choose(ways, 0, Newcomer(False, 2), never, orders.__getitem__)
    assert (demanded.way, demanded.cause) == (2, "hand")
    too_many = choose(ways, 0, Newcomer(False, 1), never, orders.__getitem__)
    assert (too_many.way, too_many.cause) == (1, "speculative")


def test_twin_of_clock_takes_what_was_unread_twice() -> None:
    read = Way(valid=True, demanded=True, visited=True)
    unread_once = Way(valid=True, demanded=True, survived=True)
    choice = choose([read, read, FULL, unread_once, *[FULL] * 10], 0, Newcomer(), never, int)
    assert (choice.way, choice.hand) == (3, 4)
    assert choice.unvisit == {0, 1} and choice.survive == {1, 2} and not choice.renew


def test_twin_of_sieve_skips_survivors_until_the_pass_ends() -> None:
    read = Way(valid=True, demanded=True, visited=True)
    survivor = Way(valid=True, demanded=True, survived=True)
    ways = [survivor, read, FULL, *[survivor] * 11]
    choice = choose(ways, 0, Newcomer(rule="sieve"), never, int)
    assert (choice.way, choice.hand) == (2, 3)
    assert choice.unvisit == {1} and choice.survive == {1} and not choice.renew
    last_of_pass = [survivor, read, *[survivor] * 12]
    choice = choose(last_of_pass, 0, Newcomer(rule="sieve"), never, int)
    assert choice.way == 2 and choice.unvisit == {1}
    assert choice.renew == {0, *range(3, WAYS)}

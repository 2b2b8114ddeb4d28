"""The store's eviction policy, step by step: the naive twin of csrc/policy.hpp.

`choose` says which way of a set makes room for a newcomer and which hints of the others change.
It moves a hand from way to way where the native code computes with masks; both must agree on
every set of tags. Import it wherever the store's victims are to be foretold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

WAYS = 14
EXPIRED_UNITS = 4
VERIFICATIONS_MAX = 2

Rule = Literal["clock", "sieve"]
Cause = Literal["none", "expired", "quota", "speculative", "hand", "hand_by_speculative"]
CAUSES: tuple[Cause, ...] = (
    "none",
    "expired",
    "quota",
    "speculative",
    "hand",
    "hand_by_speculative",
)


@dataclass(slots=True)
class Way:
    """What a tag says of its entry. stamp: 0..15, the coarse time of writing."""

    valid: bool = False
    visited: bool = False
    survived: bool = False
    demanded: bool = False
    stamp: int = 0

    @classmethod
    def of_tag(cls, word: int) -> "Way":
        """A way from the 32 bits of its tag (csrc/tag.hpp)."""
        return cls(bool(word & 1), bool(word & 2), bool(word & 4), bool(word & 8), word >> 28)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What is to be stored, and by which rules. quota: ways for speculative entries."""

    speculative: bool = False
    quota: int = 1
    rule: Rule = "clock"
    now_stamp: int = 0
    any_reader: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The way that makes room, where the hand goes, and the other ways whose hints change."""

    way: int
    hand: int
    cause: Cause
    unvisit: frozenset[int] = field(default_factory=frozenset[int])
    survive: frozenset[int] = field(default_factory=frozenset[int])
    renew: frozenset[int] = field(default_factory=frozenset[int])


def choose(
    ways: Sequence[Way],
    hand: int,
    newcomer: Newcomer,
    is_expired: Callable[[int], bool],
    order_of: Callable[[int], int],
) -> Choice:
    """Empty, expired, over the quota, then the hand. order_of: uint32, the older the smaller."""
    hand = hand if hand < WAYS else 0
    around = [(hand + step) % WAYS for step in range(WAYS)]
    for way in around:
        if not ways[way].valid:
            return Choice(way, hand, "none")
    old = [way for way in around if newcomer.any_reader and _looks_old(ways[way], newcomer)]
    for way in old[:VERIFICATIONS_MAX]:
        if is_expired(way):
            return Choice(way, hand, "expired")
    speculative = [way for way in range(WAYS) if not ways[way].demanded]
    if speculative and _is_over_quota(len(speculative), newcomer):
        oldest = _oldest(speculative, order_of)
        return Choice(oldest, hand, "quota" if newcomer.speculative else "speculative")
    return _by_hand(ways, hand, newcomer)


def _looks_old(way: Way, newcomer: Newcomer) -> bool:
    return (newcomer.now_stamp - way.stamp) % 16 >= EXPIRED_UNITS


def _is_over_quota(count: int, newcomer: Newcomer) -> bool:
    if count == WAYS:
        return True
    return count >= newcomer.quota if newcomer.speculative else count > newcomer.quota


def _oldest(ways: Sequence[int], order_of: Callable[[int], int]) -> int:
    """Orders wrap at 2^32: one is older than another if the way forward to it is the longer."""
    oldest = ways[0]
    for way in ways[1:]:
        if (order_of(way) - order_of(oldest)) % 2**32 >= 2**31:
            oldest = way
    return oldest


def _by_hand(ways: Sequence[Way], hand: int, newcomer: Newcomer) -> Choice:
    demanded = [way for way in range(WAYS) if ways[way].demanded]
    visited = {way for way in demanded if ways[way].visited}
    survived = {way for way in demanded if ways[way].survived}
    before = (set(visited), set(survived))
    while True:
        if newcomer.rule == "sieve" and survived.issuperset(demanded):
            survived.clear()  # the next pass begins
        at, hand = hand, (hand + 1) % WAYS
        if at not in demanded:
            continue
        spare = _spare_by_sieve if newcomer.rule == "sieve" else _spare_by_clock
        if not spare(at, visited, survived):
            break
    return Choice(
        at,
        hand,
        "hand_by_speculative" if newcomer.speculative else "hand",
        unvisit=frozenset(before[0] - visited - {at}),
        survive=frozenset(survived - before[1] - {at}),
        renew=frozenset(before[1] - survived - {at}),
    )


def _spare_by_clock(way: int, visited: set[int], survived: set[int]) -> bool:
    """Whether the entry is read, or unread for the first time; read ones start anew or nearly."""
    is_read, was_unread = way in visited, way in survived
    visited.discard(way)
    if is_read and way % 3 != 1:
        survived.discard(way)
    elif is_read or not was_unread:
        survived.add(way)
    return is_read or not was_unread


def _spare_by_sieve(way: int, visited: set[int], survived: set[int]) -> bool:
    """Whether the entry has survived this pass, or does now."""
    if way in survived:
        return True
    if way not in visited:
        return False
    visited.remove(way)
    survived.add(way)
    return True

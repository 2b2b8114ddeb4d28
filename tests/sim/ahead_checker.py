"""What must hold of pairs, fills, budget and books in every run of the simulation of pairs.

Rows say what they were made of (`ahead_engine`), so every served row is checked by itself; arrays
over (user, item) say what should have been there. Nothing of the server.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sim.ahead_engine import (
    DIM,
    EPOCH,
    HIGH,
    ITEM,
    LINE,
    LOW,
    MODEL,
    ONE,
    USER,
    VERSION,
    PairCall,
    line_of,
)

from predawn.server.clock import Clock
from predawn.server.request import F32, I64, U8, PairRows, Source
from predawn.server.speculation.ledger import OUTCOMES, Ledger

VERSIONS = 64
_MS = 1_000_000
_NEAR = 0.05  # means are of float32 sums
_CLEAR = 0.2  # a weighted sum whose weights are below this in total says nothing
_FALLS_BEHIND_MS = 5_000  # `LedgerLimits.request_ms`
_BURST_NS = 100_000_000
_MEANS = (Source.USER_MEAN, Source.RECENT)
_DIRECT, _NEIGHBOUR, _DEFAULT = (  # the members of an enumeration are slow to get at
    int(Source.DIRECT),
    int(Source.NEIGHBOUR),
    int(Source.DEFAULT),
)
_SOURCES = len(Source)


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one pair model: what [pairs.NAME] promises. sure: nothing is evicted and the clock never
    goes back, so that what has landed has to be there."""

    ttl_ms: int
    fill_ttl_ms: int
    order: tuple[Source, ...]
    batch_users: int
    batch_pairs: int
    per_asked: float
    per_second: float
    share: float
    sure: bool


@dataclass
class Kept:
    """What the checker knows of one model. Arrays over [users, items]; of `landed` pairs: when, by
    which version, in which epoch of the user; open: landed since issued, not read yet."""

    number: int
    rules: Rules
    users: int
    items: int
    line: int = 0
    issued: int = 0
    used: int = 0
    asked: int = 0
    tokens: float = 0.0
    second: float = 0.0
    second_ns: int = 0
    engine_ns: int = 0

    def __post_init__(self) -> None:
        shape = (self.users, self.items)
        self.landed_ms: I64 = np.full(shape, -1, dtype=np.int64)
        self.by: I64 = np.zeros(shape, dtype=np.int64)
        self.epoch: I64 = np.zeros(shape, dtype=np.int64)
        self.open: NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
        self.mean_ms: I64 = np.full(self.users, -1, dtype=np.int64)
        self.mean_by: I64 = np.zeros(self.users, dtype=np.int64)
        self.item_ms: I64 = np.full(self.items, -1, dtype=np.int64)
        self.invalidated_ms: I64 = np.full(self.users, -(10**15), dtype=np.int64)
        self.alike: NDArray[np.bool_] = np.zeros(VERSIONS, dtype=np.bool_)
        self.alike[1] = True
        self.sources = [0] * _SOURCES
        order = self.rules.order
        self.levels = {*map(int, order), _DEFAULT}
        mean = next((at for at, each in enumerate(order) if each in _MEANS), None)
        # What a candidate may come from where the user has a mean.
        self.preferred: NDArray[np.bool_] = np.full(_SOURCES, mean is None)
        self.preferred[[_DIRECT, *([] if mean is None else order[: mean + 1])]] = True
        self.second = max(1.0, self.rules.per_second)
        self.burst = 16.0 * self.rules.batch_pairs


@dataclass
class AheadChecker:
    """Told of everything that happens; raises AssertionError at the first thing that is wrong.
    epochs: int64 [users], how often each was invalidated; slack_ms: by how much the wall clock was
    set back in all: what stands still meanwhile is so much older by it."""

    clock: Clock
    models: Mapping[str, Rules]
    users: int
    items: int
    share: float
    hang_after_ms: int
    epochs: I64
    slack_ms: Callable[[], int] = int
    faults: list[AssertionError] = field(default_factory=list[AssertionError])
    calls: list[PairCall] = field(default_factory=list[PairCall])
    requests: int = 0

    def __post_init__(self) -> None:
        self.kept = {
            name: Kept(number, rules, self.users, self.items)
            for number, (name, rules) in enumerate(self.models.items())
        }
        self.call_ms: I64 = np.full(1_024, -1, dtype=np.int64)

    # The engine

    def began(self, call: PairCall) -> None:
        """One batch at a time, within the limits, the budget and the share of engine time."""
        try:
            self._began(call)
        except AssertionError as fault:
            self.faults.append(fault)

    def _began(self, call: PairCall) -> None:
        kept, rules, n = self.kept[call.model], self.models[call.model], len(call.items)
        assert all(each.ended for each in self.calls[-2:]), "two batches at once"
        self._charge()
        self.calls.append(call)
        kept.issued += n
        assert 0 < n <= rules.batch_pairs
        assert len(np.unique(call.users)) <= rules.batch_users
        assert len(np.unique(call.users * self.items + call.items)) == n, "a pair twice in a batch"
        kept.open[call.users, call.items] = False
        kept.tokens -= n
        assert kept.tokens >= -1e-6, "more pairs than requests have paid for"
        self._second(kept, rules)
        kept.second -= n
        assert not rules.per_second or kept.second >= -1e-6, "more pairs a second than allowed"
        all_ns = sum(each.engine_ns for each in self.kept.values())
        for spent_ns, share in ((all_ns, self.share), (kept.engine_ns, self.share * rules.share)):
            assert spent_ns <= share * call.began_ns + _BURST_NS, "more than the share"

    def _charge(self) -> None:
        """The time of the batch before, a hang as much as is charged for one."""
        if self.calls:
            last = self.calls[-1]
            self.kept[last.model].engine_ns += min(last.charged_ns, self.hang_after_ms * _MS)

    def _second(self, kept: Kept, rules: Rules) -> None:
        now_ns = self.clock.monotonic_ns()
        grown = kept.second + rules.per_second * (now_ns - kept.second_ns) / 1e9
        kept.second = min(max(1.0, rules.per_second), grown)
        kept.second_ns = now_ns

    def landed(self, model: str, rows: F32) -> None:
        """Rows were given to the store, which may keep them from now on."""
        try:
            self._landed(self.kept[model], rows)
        except AssertionError as fault:
            self.faults.append(fault)

    def _landed(self, kept: Kept, rows: F32) -> None:
        made = rows.astype(np.int64)
        assert (made == rows).all() and len(rows), "rows that are not the engine's"
        users, items, now_ms = made[:, USER], made[:, ITEM], self.clock.wall_ms()
        number = int(made[0, HIGH] * 1_024 + made[0, LOW])
        call = self.calls[number]
        assert call.ended == "ok" and (made[:, HIGH] * 1_024 + made[:, LOW] == number).all()
        assert (made[:, EPOCH] == self.epochs[users]).all(), "landed from before an invalidation"
        call.landed += len(rows)
        kept.landed_ms[users, items] = now_ms
        kept.by[users, items] = call.version
        kept.epoch[users, items] = made[:, EPOCH]
        kept.open[users, items] = True
        if kept.alike[call.version]:
            kept.mean_ms[users], kept.mean_by[users] = now_ms, call.version
            kept.item_ms[items] = now_ms
        if number >= len(self.call_ms):
            self.call_ms = np.concatenate([self.call_ms, np.full_like(self.call_ms, -1)])
        self.call_ms[number] = now_ms

    # What else happens

    def invalidated(self, user: int) -> None:
        """All of a user's pairs are to be forgotten from here on."""
        self.epochs[user] += 1
        for kept in self.kept.values():
            kept.invalidated_ms[user] = self.clock.wall_ms()
            kept.open[user] = False
            kept.mean_ms[user] = -1

    def served_by(self, model: str, alike: range) -> None:
        """From here on rows of these versions are served, and what is made of them."""
        kept = self.kept[model]
        kept.line = line_of(alike.start)
        kept.alike[:] = False
        kept.alike[alike.start : alike.stop] = True

    # What a request sees

    def served(self, model: str, user: int, items: I64, rows: PairRows) -> None:
        """Every candidate has a row that may be served, and what has to be there is there."""
        kept, now_ms = self.kept[model], self.clock.wall_ms()
        n = len(items)
        assert rows.rows.shape == (n, DIM) and sum(rows.counts) == n
        assert rows.counts == np.bincount(rows.sources, minlength=_SOURCES).tolist()
        assert np.isfinite(rows.rows).all()
        direct = rows.sources == _DIRECT
        if rows.counts[_DIRECT]:
            self._direct(kept, user, items[direct], rows.rows[direct], rows.ages_ms[direct])
        if rows.counts[_DIRECT] < n:
            self._filled(kept, user, items, rows)
        if kept.rules.sure:
            self._complete(kept, user, items, rows.sources, now_ms)
        self._read(kept, user, items, direct, now_ms)
        kept.sources = [a + b for a, b in zip(kept.sources, rows.counts, strict=True)]

    def _filled(self, kept: Kept, user: int, items: I64, rows: PairRows) -> None:
        for source, count in enumerate(rows.counts):
            if not count or source == _DIRECT:
                continue
            assert source in kept.levels, f"{Source(source).label} is not in the order of fills"
            chosen = rows.sources == source
            filled, ages_ms = rows.rows[chosen], rows.ages_ms[chosen]
            if source == _NEIGHBOUR:
                self._neighbour(kept, items[chosen], filled)
            elif source == _DEFAULT:
                assert (filled == -1).all() and (ages_ms == -1).all()
            else:
                self._mean(kept, user, filled, ages_ms)

    def _direct(self, kept: Kept, user: int, items: I64, rows: F32, ages_ms: I64) -> None:
        made, now_ms = rows.astype(np.int64), self.clock.wall_ms()
        expected = [1, kept.number, user, -1, -1, self.epochs[user]]
        same = made[:, :HIGH] == expected
        same[:, ITEM] = made[:, ITEM] == items
        same[:, VERSION] = kept.alike[made[:, VERSION]]
        if not same.all():
            column = int(np.flatnonzero(~same.all(axis=0))[0])
            names = ("row", "model", "user", "item", "version", "epoch")
            raise AssertionError(f"a pair of another {names[column]}: {made}")
        assert (made == rows).all()
        landed_ms = self.call_ms[made[:, HIGH] * 1_024 + made[:, LOW]]
        assert (landed_ms >= 0).all(), "never landed"
        assert (ages_ms == np.maximum(0, now_ms - landed_ms)).all()
        assert (ages_ms <= kept.rules.ttl_ms).all(), "too old"

    def _mean(self, kept: Kept, user: int, rows: F32, ages_ms: I64) -> None:
        """Made of the user's own rows alone, of this epoch, of versions that are alike."""
        assert (rows == rows[0]).all() and (ages_ms == ages_ms[0]).all(), "one user, one mean"
        row = rows[0].astype(np.float64)
        expected = [1, kept.number, user, self.epochs[user], kept.line]
        near = np.abs(row[[ONE, MODEL, USER, EPOCH, LINE]] - expected) <= _NEAR
        assert near.all(), f"a mean of another user, epoch or version than {expected}: {row}"
        assert -_NEAR <= row[ITEM] <= self.items
        assert 0 <= ages_ms[0] <= kept.rules.fill_ttl_ms, "a mean that is too old"
        if kept.rules.sure and kept.mean_ms[user] >= 0:
            assert ages_ms[0] == self.clock.wall_ms() - kept.mean_ms[user]

    def _neighbour(self, kept: Kept, items: I64, rows: F32) -> None:
        """Made of rows of this item alone, one of which is young enough."""
        weight = rows[:, ONE].astype(np.float64)
        clear = np.abs(weight) >= _CLEAR
        made = rows[clear] / weight[clear, None]
        assert (np.abs(made[:, MODEL] - kept.number) <= _NEAR).all()
        wrong = np.abs(made[:, ITEM] - items[clear]) > 0.3
        assert not wrong.any(), f"a neighbour of another item: {made[wrong]}, {items[clear][wrong]}"
        others = np.abs(made[:, LINE] - kept.line) > _NEAR
        assert not others.any(), f"a neighbour of another version than {kept.line}: {made[others]}"
        ages_ms = self.clock.wall_ms() - kept.item_ms[items]
        assert (kept.item_ms[items] >= 0).all()
        assert (ages_ms <= kept.rules.fill_ttl_ms + self.slack_ms()).all(), "a neighbour's, too old"

    def _complete(self, kept: Kept, user: int, items: I64, sources: U8, now_ms: int) -> None:
        landed_ms = kept.landed_ms[user, items]
        good = (landed_ms >= 0) & kept.alike[kept.by[user, items]]
        good &= kept.epoch[user, items] == self.epochs[user]
        good &= landed_ms > kept.invalidated_ms[user]
        there = good & (now_ms - landed_ms <= kept.rules.ttl_ms)
        assert (sources[there] == _DIRECT).all(), "a pair that was there was not served"
        mean_ms = int(kept.mean_ms[user])
        has_mean = mean_ms > kept.invalidated_ms[user] and kept.alike[kept.mean_by[user]]
        if has_mean and now_ms - mean_ms <= kept.rules.fill_ttl_ms:
            assert kept.preferred[sources].all(), "the user's mean was there and was not served"

    def _read(
        self, kept: Kept, user: int, items: I64, direct: NDArray[np.bool_], now_ms: int
    ) -> None:
        """First uses. What was there long enough and was not served has ended unread."""
        kept.used += int(kept.open[user, items[direct]].sum())
        kept.open[user, items[direct]] = False
        absent = items[~direct]
        gone = absent[kept.landed_ms[user, absent] < now_ms - _FALLS_BEHIND_MS]
        kept.open[user, gone] = False

    def told(self, model: str, pairs: int) -> None:
        """Speculation is about to hear of a request of so many pairs."""
        kept = self.kept[model]
        kept.asked += pairs
        kept.tokens = min(kept.burst, kept.tokens + kept.rules.per_asked * pairs)

    # The end

    def accounted(self, model: str, ledger: Ledger) -> None:
        """The books of a model are those of the checker: every pair that the engine was given has
        one end, or is open."""
        kept, counted = self.kept[model], ledger.counted()
        ended = {
            name: int(n) for name, n in zip(OUTCOMES, counted.outcomes.sum(axis=0), strict=True)
        }
        assert ledger.check() == []
        issued = int(counted.issued.sum())
        assert issued == kept.issued, f"{issued} pairs in the ledger, {kept.issued} at the engine"
        assert issued == sum(ended.values()) + ledger.open, f"{issued} issued, {ended}"
        assert counted.asked[: len(Source)].tolist() == kept.sources
        least, most = self._failed(model)
        assert least <= ended["failed"] <= most, f"{ended}, {least} to {most} have failed"
        if kept.rules.sure:
            assert ended["used"] == kept.used, f"{ended}, {kept.used} were used"

    def at_the_end(self) -> None:
        """Nothing that was computed is lost, and nothing that was wrong was hidden."""
        if self.faults:
            raise self.faults[0]
        for call in self.calls:
            assert call.ended, "a call that nobody waits for"
            stayed = call.ok & (self.epochs[call.users] == call.epochs)
            lost = int(stayed.sum()) - call.landed if call.ended == "ok" else 0
            assert lost <= 0, f"{lost} pairs were computed and are lost"

    def _failed(self, model: str) -> tuple[int, int]:
        """Pairs that failed and whose users were not invalidated since they were begun; those and
        all others that were not computed."""
        least = most = 0
        for call in self.calls:
            if call.model == model:
                bad = ~call.ok if call.ended == "ok" else np.ones_like(call.ok)
                stayed = self.epochs[call.users] == call.epochs
                least += int((bad & stayed).sum()) if call.ended != "cancelled" else 0
                most += int(bad.sum())
        return least, most

"""One pair model's part of speculation: hears requests, and says what is worth computing next.

Invariant: every candidate, missed by a request or proposed by the predictor, is waiting (with the
arrivals or in the scheduler), in a slice that was handed out, or has been counted once by how it
ended. What is handed out is paid for. No loop and no clock: instants are passed in, `now_ns` of the
monotonic clock for the budget, `now_ms` of the wall clock for embeddings and predictor.

Hearing a request only learns, accounts, and notes who asked; what a user's pairs are worth is
worked out later, when the task has time (`plan`), once for all that he has asked meanwhile.
"""

import random
from collections import OrderedDict
from collections.abc import Collection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from predawn.server.metrics import PAIR_OUTCOMES, Metrics, SpeculationCounts
from predawn.server.request import F32, I64, U8, U64, Source, UserId
from predawn.server.speculation.arrivals import Arrival, Arrivals
from predawn.server.speculation.budget import PairBudget
from predawn.server.speculation.contract import Origin, PredictsPairs
from predawn.server.speculation.engine_cost import EngineCost
from predawn.server.speculation.ledger import Ledger
from predawn.server.speculation.limits import PairLimits
from predawn.server.speculation.price import Price
from predawn.server.speculation.scheduler import Candidates, Planned, Scheduler, Terms
from predawn.server.speculation.throttle import Throttle

_EXPLORED = 0.01  # of the budget, for pairs that are less likely than `least_chance`
_RENEWED = 1 / 16  # of its ttl is left to a pair that may be computed again
_AGAIN = 1 / 1_000  # of the ttl, between two looks at a user who misses nothing
_LOOKED_AT = 65_536  # users of whom the last look is remembered
_LEAST_WORTH = 1e-6
_EXPLORED_VALUE = 2.0  # more than any other can have
_SURPLUS = 0.5  # of the tokens that are meant to be saved
_DIRECT = int(Source.DIRECT)
_MISSED, _SHOWN = int(Origin.MISSED), int(Origin.SHOWN)
_USED = PAIR_OUTCOMES.index("used")
_LOST = [PAIR_OUTCOMES.index("failed"), PAIR_OUTCOMES.index("void")]

_ONE_EACH: NDArray[np.float64] = np.ones(len(Origin))


class SeesPairs(Protocol):
    """What is in the store: `PairCache`."""

    def peek(self, model: str, user: UserId, items: U64, max_age_ms: int) -> I64:
        """int64 [n], ages of the pairs that are there and no older, -1 for the others."""
        ...

    def levels(self, model: str, user: UserId, items: U64, vector: F32 | None = None) -> U8:
        """uint8 [n], the `Source` that each item would be filled from if it is absent."""
        ...


class Planner:
    """predictor None: only missed pairs are computed."""

    def __init__(
        self,
        model: str,
        limits: PairLimits,
        predictor: PredictsPairs | None,
        ledger: Ledger,
        store: SeesPairs,
        metrics: Metrics,
        now: tuple[int, int],
        seed: int,
    ) -> None:
        now_ns, now_ms = now
        self.model = model
        self.ledger = ledger
        self.cost = EngineCost(limits.encode_pairs)
        self.throttle = Throttle(limits.ttl_ms, limits.least_chance, now_ms)
        self.budget = PairBudget(limits, now_ns)
        self._limits = limits
        self._predictor = predictor
        self._store = store
        self._metrics = metrics
        self._random = random.Random(seed)
        self._price = Price(limits.least_chance, self.budget.target)
        self._arrivals = Arrivals(limits)
        self._scheduler = Scheduler(limits, self.budget.burst, self.ended)
        self._looked_ns: OrderedDict[UserId, int] = OrderedDict()
        self._explore = 0.0
        worth = [1 - limits.fill_value.get(each, 0.0) for each in Source]
        self._worth: F32 = np.array(worth, dtype=np.float32)
        self._most_worth, self._least_worth = max(worth), min(worth)
        self._caps: F32 | None = None  # None: nothing is throttled
        self._issued = self._used = np.zeros(len(Origin), dtype=np.int64)

    def __len__(self) -> int:
        """Pairs that wait."""
        return self._arrivals.pairs + len(self._scheduler)

    @property
    def unplanned(self) -> int:
        """Users whose pairs `plan` is still to look at."""
        return len(self._arrivals)

    def can_take(self, now_ns: int) -> bool:
        """Whether `take` may have something to give."""
        return len(self._scheduler) > 0 and self.budget.room(now_ns) >= self._costs[_MISSED]

    @property
    def price(self) -> float:
        """Least value of a pair that is computed now."""
        return 0.0 if self._predictor is None else self._price.value

    def asked(
        self,
        user: UserId,
        items: U64,
        scores: F32,
        sources: U8,
        running: Collection[int],
        now_ns: int,
        now_ms: int,
    ) -> None:
        """A request of `user` has ranked `items` [n] with `scores` [n] and read them from `sources`
        [n]; `running`: items of his that the engine has."""
        known = sources == _DIRECT
        if self._predictor is not None:
            self._predictor.asked(user, items, scores, known.view(np.uint8), now_ms)
        self.ledger.asked(user, items, sources, now_ms)
        self.budget.asked(len(items))
        tokens = self._limits.pairs_per_asked * len(items)
        self._price.asked(tokens, self.budget.fullness)
        self._explore = min(self.budget.target, self._explore + _EXPLORED * tokens)
        if not known.all():
            coalesced = self._arrivals.add(user, items[~known], running, now_ns)
            self._missed("coalesced", coalesced)
            self._missed("full", self._arrivals.shrink())
        elif self._is_due(user, now_ns):
            self._arrivals.add(user, items[:0], (), now_ns)
            self._missed("full", self._arrivals.shrink())

    def hint(self, user: UserId, now_ns: int) -> bool:
        """`user` has arrived and may ask soon: he is looked at first. False when that would be too
        soon after the last time, or nobody proposes pairs."""
        if not self._is_due(user, now_ns):
            return False
        self._arrivals.add(user, np.zeros(0, dtype=np.uint64), (), now_ns)
        self._missed("full", self._arrivals.shrink())
        return True

    def plan(self, now_ns: int, now_ms: int) -> None:
        """Works out what the pairs of who asked last are worth; while the engine has nothing."""
        arrival, stale = self._arrivals.next(now_ns)
        self._missed("stale", stale)
        user = arrival.user
        self._looked_ns[user] = now_ns
        self._looked_ns.move_to_end(user)
        if len(self._looked_ns) > _LOOKED_AT:
            self._looked_ns.popitem(last=False)
        found = self._likely(self._candidates(arrival, now_ns, now_ms))
        found = self._valued(user, self._filtered(user, found))
        if len(found):
            self._scheduler.offer(user, found, self.cost.encode_pairs(user))

    def take(self, now_ns: int, now_ms: int) -> list[Planned]:
        """The next slice, paid for and in the ledger; [] where there is nothing to compute or
        nothing left to spend."""
        terms = Terms(
            price=self.price,
            tokens=self.budget.room(now_ns),
            costs=self._costs,
            ahead=self.budget.room_ahead(self.ledger.unread_ahead),
            surplus=self.budget.fullness >= _SURPLUS,
        )
        planned: list[Planned] = []
        for each in self._scheduler.take(now_ns, terms):
            pairs = self._filtered(each.user, each.pairs)
            if len(pairs):
                tokens = float(terms.costs[pairs.origins].sum())
                self.budget.spend(len(pairs), tokens)
                self.ledger.issued(each.user, pairs.items, pairs.origins, now_ms)
                planned.append(Planned(each.user, pairs, tokens))
        return planned

    def settle(self, now_ms: int) -> bool:
        """Accounts for what was never asked for; whether the throttle begins or ends to act."""
        self.ledger.settle(now_ms)
        counted = self.ledger.counted()
        outcomes = counted.outcomes.astype(np.int64)
        issued = counted.issued.astype(np.int64) - outcomes[:, _LOST].sum(axis=1)
        used = outcomes[:, _USED]
        self.throttle.computed(np.maximum(issued - self._issued, 0).tolist())
        self.throttle.used((used - self._used).tolist())
        self._issued, self._used = issued, used
        turned = self.throttle.settle(now_ms)
        self._caps = self.throttle.caps if min(self.throttle.scales) < 1 else None
        return turned

    def ended(self, outcome: str, origins: U8) -> None:
        """Counts candidates, by whether a request has missed them."""
        missed = len(origins) - int(np.count_nonzero(origins))
        self._metrics.missed(self.model, outcome, missed)
        self._metrics.proposed(self.model, outcome, len(origins) - missed)

    def counts(self) -> SpeculationCounts:
        """For `Metrics.speculation`."""
        return SpeculationCounts(
            ledger=self.ledger.counts(),
            tokens=self.budget.room(0),
            price=self.price,
            throttle=min(self.throttle.scales),
            sentence=self.throttle.reason(),
        )

    def report(self) -> dict[str, Any]:
        """JSON-ready: budget, price, throttle, costs, predictor."""
        price, spent = self.price, self.budget.spent_pairs
        asked = self.budget.asked_pairs
        return {
            "asked": asked,
            "computed": spent,
            "computed_per_asked": spent / asked if asked else 0.0,
            "tokens": round(self.budget.room(0), 3),
            "price": price,
            "pairs_per_hit": 1 / price if price else 0.0,
            "throttle": dict(
                zip((each.name.lower() for each in Origin), self.throttle.scales, strict=True)
            ),
            "reason": self.throttle.reason(),
            "encode_pairs": self.cost.encode,
            "pair_us": self.cost.pair_ns / 1e3,
            "waiting": len(self),
            "predictor": {} if self._predictor is None else self._predictor.report(),
        }

    @property
    def _costs(self) -> NDArray[np.float64]:
        """Tokens a pair costs, by origin. Where pairs that do not pay are told by their chance,
        the price deals with them."""
        return self.throttle.costs if self._predictor is None else _ONE_EACH

    def _is_due(self, user: UserId, now_ns: int) -> bool:
        if self._predictor is None:
            return False
        looked_ns = self._looked_ns.get(user)
        again_ns = int(self._limits.ttl_ms * _AGAIN * 1e6)
        return looked_ns is None or now_ns - looked_ns >= again_ns

    def _candidates(self, arrival: Arrival, now_ns: int, now_ms: int) -> Candidates:
        """The pairs that the user has missed and those that the predictor proposes, each once;
        values are chances still. What the predictor calls missed beside them was missed earlier
        and is not waited for: it was shown."""
        missed, count = arrival.missed, len(arrival.missed)
        if self._predictor is None:
            sure, origins = np.ones(count, dtype=np.float32), np.zeros(count, dtype=np.uint8)
            return Candidates(missed, sure, sure, origins, arrival.asked_ns)
        limit, least = self._limits.batch_pairs, self.price / max(self._most_worth, _LEAST_WORTH)
        found = self._predictor.propose(arrival.user, now_ms, limit, least, missed)
        asked_ns = np.full(len(found.items), now_ns, dtype=np.int64)
        if count:
            asked_ns[:count] = arrival.asked_ns
            unknown = found.chances[:count] < 0
            found.chances[:count][unknown] = self.throttle.chance(_MISSED)
        shown = found.origins[count:]
        np.maximum(shown, _SHOWN, out=shown)
        return Candidates(found.items, found.chances, found.chances, found.origins, asked_ns)

    def _filtered(self, user: UserId, found: Candidates) -> Candidates:
        """Without what is in the store already, with more than a little of its life left."""
        if not len(found):
            return found
        max_age_ms = self._limits.ttl_ms - int(self._limits.ttl_ms * _RENEWED)
        ages_ms = self._store.peek(self.model, user, found.items, max_age_ms)
        return self._without(found, ages_ms >= 0, "filtered")

    def _likely(self, found: Candidates) -> Candidates:
        """Without what would not be worth its price even if nothing else were there to serve, but
        for a few of the unlikely, which are worth their price whatever it is."""
        if self._predictor is None or not len(found):
            return found
        chances = found.chances
        if self._caps is not None:
            chances = np.minimum(chances, self._caps[found.origins])
        least = self._limits.least_chance
        if chances.min() >= max(least, self.price / max(self._most_worth, _LEAST_WORTH)):
            return Candidates(found.items, chances, chances, found.origins, found.asked_ns)
        values = chances.copy()
        found = Candidates(found.items, values, chances, found.origins, found.asked_ns)
        unlikely = chances < least
        cheap = ~unlikely & (chances * self._most_worth < self.price)
        explored = self._explored(unlikely)
        values[explored] = _EXPLORED_VALUE
        unlikely[explored] = False
        if unlikely.any():
            self.ended("unlikely", found.origins[unlikely])
        if cheap.any():
            self.ended("below_price", found.origins[cheap])
        return found.at(~(unlikely | cheap))

    def _valued(self, user: UserId, found: Candidates) -> Candidates:
        """With values for chances, and without what is not worth its price."""
        if self._predictor is None or not len(found) or self._least_worth == 1:
            return found
        levels = self._store.levels(self.model, user, found.items)
        values: F32 = found.chances * self._worth[levels]
        values[found.values == _EXPLORED_VALUE] = 1
        found = Candidates(found.items, values, found.chances, found.origins, found.asked_ns)
        return self._without(found, values < self.price, "below_price")

    def _explored(self, unlikely: NDArray[np.bool_]) -> NDArray[np.intp]:
        """A few at random, as far as the credit for them goes."""
        where = np.flatnonzero(unlikely)
        count = min(int(self._explore), len(where))
        self._explore -= count
        return np.array(self._random.sample(where.tolist(), count), dtype=np.intp)

    def _without(self, found: Candidates, gone: NDArray[np.bool_], outcome: str) -> Candidates:
        """Those not `gone`, which are counted."""
        if not gone.any():
            return found
        self.ended(outcome, found.origins[gone])
        return found.at(~gone)

    def _missed(self, outcome: str, pairs: int) -> None:
        if pairs:
            self._metrics.missed(self.model, outcome, pairs)

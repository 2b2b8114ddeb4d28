"""What the pair predictor costs a shown pair: learning from a request and proposing for its user,
on the calibrated workload, in process.

The limit is the extension's two calls with buffers at hand; the rest is what Python adds. Time of
the workload goes on, so what is due is learnt as in service.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from predawn.bench.harness import Case, Effort, Row, Stamp, Subject, measure
from predawn.bench.workload import WorkloadOptions, generate
from predawn.csrc._predictor import Predictor
from predawn.server.request import F32, U8, U64
from predawn.server.speculation.predictor import LearnedPairs, PredictorLimits

TTL_MS = 6 * 3_600_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes. requests: taken from the trace; the predictor has seen all of them before. limit:
    pairs proposed at most."""

    users: int
    hours: float
    requests: int
    limit: int = 256


FULL = Plan(users=500, hours=72, requests=10_000)
SMOKE = Plan(users=20, hours=3, requests=20)


@dataclass(frozen=True, slots=True)
class _Request:
    user: int
    items: U64
    scores: F32
    known: U8
    at_ms: int


def rows(mark: Stamp, *, smoke: bool, effort: Effort) -> list[Row]:
    """ns a shown pair: `asked` and `propose` together, and each alone."""
    plan = SMOKE if smoke else FULL
    requests = _requests(plan)
    pairs = round(sum(len(each.items) for each in requests) / len(requests))
    learned, native = _learned(), _native()
    _see(learned, requests)
    for each in requests:
        native.asked(each.user, False, each.items, each.scores, each.known, each.at_ms)
    both = _in_turn(requests, _both(learned, plan.limit))
    asked = _in_turn(requests, _asked(learned))
    proposed = _in_turn(requests, _proposed(learned, plan.limit))
    calls = _in_turn(requests, _native_both(native, plan.limit))
    per = "shown pair"
    return measure(
        mark,
        [
            Case(
                "predictor: asked + propose",
                Subject("predawn", both, pairs),
                limit=Subject("native", calls, pairs),
                per=per,
            ),
            Case("predictor: asked", Subject("predawn", asked, pairs), per=per),
            Case("predictor: propose", Subject("predawn", proposed, pairs), per=per),
        ],
        effort,
    )


def _requests(plan: Plan) -> list[_Request]:
    trace = generate(WorkloadOptions(plan.users, plan.hours, seed=1))
    rng = np.random.default_rng(0)
    found: list[_Request] = []
    for i in range(max(0, len(trace) - plan.requests), len(trace)):
        items = trace.items[trace.offsets[i] : trace.offsets[i + 1]]
        scores = rng.random(len(items), dtype=np.float32)
        known = (rng.random(len(items)) < 0.5).astype(np.uint8)
        found.append(_Request(int(trace.users[i]), items, scores, known, int(trace.t_ms[i])))
    return found


def _learned() -> LearnedPairs:
    return LearnedPairs(PredictorLimits(TTL_MS))


def _native() -> Predictor:
    return Predictor(users=100_000, items=65_536, lists=10, popular=256, ttl_ms=TTL_MS, seed=0)


def _see(predictor: LearnedPairs, requests: list[_Request]) -> None:
    for each in requests:
        predictor.asked(each.user, each.items, each.scores, each.known, each.at_ms)


def _in_turn(
    requests: list[_Request], call: Callable[[_Request, int], object]
) -> Callable[[], object]:
    """Calls with one request after the other, over and over, later each time."""
    span_ms = requests[-1].at_ms - requests[0].at_ms + 60_000
    turns: Iterator[tuple[_Request, int]] = (
        (each, each.at_ms + turn * span_ms) for turn in itertools.count(1) for each in requests
    )
    return lambda: call(*next(turns))


def _asked(predictor: LearnedPairs) -> Callable[[_Request, int], object]:
    def call(each: _Request, now_ms: int) -> None:
        predictor.asked(each.user, each.items, each.scores, each.known, now_ms)

    return call


def _proposed(predictor: LearnedPairs, limit: int) -> Callable[[_Request, int], object]:
    return lambda each, now_ms: predictor.propose(each.user, now_ms, limit)


def _both(predictor: LearnedPairs, limit: int) -> Callable[[_Request, int], object]:
    def call(each: _Request, now_ms: int) -> object:
        predictor.asked(each.user, each.items, each.scores, each.known, now_ms)
        return predictor.propose(each.user, now_ms, limit)

    return call


def _native_both(predictor: Predictor, limit: int) -> Callable[[_Request, int], object]:
    items, chances = np.empty(limit, np.uint64), np.empty(limit, np.float32)
    origins = np.empty(limit, np.uint8)

    def call(each: _Request, now_ms: int) -> object:
        predictor.asked(each.user, False, each.items, each.scores, each.known, now_ms)
        return predictor.propose(each.user, False, now_ms, 0.02, items, chances, origins)

    return call

"""The options of `predawn replay` that make a model of pairs part of it."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from predawn.server.cli.options import duration

if TYPE_CHECKING:
    from predawn.server.replay import PairOptions


class Predictor(StrEnum):
    """[pairs.NAME.speculation] predictor."""

    LEARNED = "learned"
    SCORE = "score"
    RECENCY = "recency"
    NONE = "none"


class NeighbourKind(StrEnum):
    """[pairs.NAME] neighbours."""

    SIMILAR = "similar"
    CLUSTERS = "clusters"


_FM = 'Foundation model: "truth" (of the log), its snapshot, or "off". Example: --fm truth'
_BUDGET = "Pairs it computes per pair asked for. Example: --budget-pairs-per-asked 0.5"
_BUDGETS = "Replays under each of these, too. Example: --budgets 0.25,0.5,1"
_FILLS = 'What stands in for an absent pair, in order; "" for none. Example: --fills neighbour'
_BASELINES = "Adds plain rules, oracles and distillation under the same budget."
_RECENT = "Embeddings kept per user for --fills recent. Example: --recent-length 16"

Fm: TypeAlias = Annotated[str, typer.Option(metavar="truth|PATH|off", help=_FM)]
Budget: TypeAlias = Annotated[float, typer.Option(min=0, help=_BUDGET)]
Budgets: TypeAlias = Annotated[str, typer.Option(metavar="LIST", help=_BUDGETS, show_default=False)]
PredictorOption: TypeAlias = Annotated[
    Predictor, typer.Option(help="Who proposes pairs; none: only missed ones are computed.")
]
PairTtl: TypeAlias = Annotated[
    int,
    typer.Option(
        parser=duration,
        metavar="DURATION",
        help="A pair is served up to here. Example: --pair-ttl 12h",
        show_default="12h",
    ),
]
PairCapacity: TypeAlias = Annotated[int, typer.Option(min=16, help="Pairs the store holds.")]
Fills: TypeAlias = Annotated[str, typer.Option(metavar="LIST", help=_FILLS)]
RecentLength: TypeAlias = Annotated[int, typer.Option(min=0, max=256, help=_RECENT)]
NeighboursOption: TypeAlias = Annotated[
    NeighbourKind, typer.Option(help="How --fills neighbour is made.")
]
CostPerPair: TypeAlias = Annotated[
    float, typer.Option(min=0, max=1e6, help="Engine time of every pair in a batch of pairs.")
]
CostEncode: TypeAlias = Annotated[
    float, typer.Option(min=0, max=1e6, help="Engine time of every user in a batch of pairs.")
]
FmFailureRate: TypeAlias = Annotated[
    float, typer.Option(min=0, max=1, help="Chance that a batch of pairs fails.")
]
FmHangRate: TypeAlias = Annotated[
    float, typer.Option(min=0, max=1, help="Chance that one hangs (for --hang-s).")
]
PairBaselines: TypeAlias = Annotated[bool, typer.Option("--pair-baselines", help=_BASELINES)]


def pair_options(
    fm: Fm = "off",
    budget_pairs_per_asked: Budget = 1.0,
    budgets: Budgets = "",
    predictor: PredictorOption = Predictor.LEARNED,
    pair_ttl: PairTtl = 12 * 3_600_000,
    pair_capacity: PairCapacity = 1_000_000,
    fills: Fills = "neighbour,user_mean",
    recent_length: RecentLength = 0,
    neighbours: NeighboursOption = NeighbourKind.SIMILAR,
    cost_per_pair_ms: CostPerPair = 0.05,
    cost_encode_ms: CostEncode = 2.0,
    fm_failure_rate: FmFailureRate = 0.0,
    fm_hang_rate: FmHangRate = 0.0,
    pair_baselines: PairBaselines = False,
) -> "PairOptions | None":
    """What the options ask for; None: no foundation model."""
    from predawn.server.replay import PairCost, PairOptions

    if fm == "off":
        return None
    return PairOptions(
        fm=None if fm == "truth" else Path(fm),
        budget=budget_pairs_per_asked,
        budgets=_numbers(budgets),
        predictor=predictor.value,
        ttl_ms=pair_ttl,
        capacity=pair_capacity,
        fills=_names(fills),
        recent_length=recent_length,
        neighbours=neighbours.value,
        cost=PairCost(cost_per_pair_ms, cost_encode_ms),
        failure_rate=fm_failure_rate,
        hang_rate=fm_hang_rate,
        baselines=pair_baselines,
    )


def _names(text: str) -> tuple[str, ...]:
    """ "a, b" as ("a", "b"); "" as ()."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[float, ...]:
    """ "0.5,1" as (0.5, 1.0)."""
    try:
        return tuple(map(float, _names(text)))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of numbers", param_hint="--budgets"
        ) from None

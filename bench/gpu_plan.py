"""What the GPU bench measures, most wanted first: the time is limited, and what comes late may be
left out."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch

from predawn.bench.gpu_cases import BagShape, Case, CrossShape, bag_case, cross_case
from predawn.bench.gpu_cases_attention import (
    AttnShape,
    RowsShape,
    attn_case,
    kv_write_case,
    norm_gate_case,
)
from predawn.bench.gpu_cases_bags import QUANTISED_BAGS, QuantisedBagShape, quantised_bag_case
from predawn.bench.gpu_cases_lookup import (
    GATHERS,
    TOPKS,
    GatherShape,
    TopkShape,
    gather_case,
    topk_case,
)
from predawn.bench.gpu_cases_scatter import SCATTERS, ScatterShape, scatter_case
from predawn.bench.gpu_rig import Rig
from predawn.bench.gpu_timer import Ceilings
from predawn.bench.harness import Row, Stamp
from predawn.kernels import compiles
from predawn.kernels.hstu_prefix_attn import PAGE, tiling_of
from predawn.kernels.score_topk_triton import FEW_USERS

HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32

_NARROW = tiling_of(BRAIN, 128, many=False)
ATTENTIONS = (
    AttnShape((4096,), (512,), 16, 128, BRAIN),
    AttnShape((4096,) * 8, (512,) * 8, 16, 128, BRAIN),
    AttnShape((1024,) * 32, (2048,) * 32, 4, 128, BRAIN),
    AttnShape((4096,), (32,), 16, 128, BRAIN, tiling=_NARROW),
    AttnShape((0,), (4096,), 16, 128, BRAIN, causal=True, written=True),
    AttnShape((4086,) * 8, (10,) * 8, 16, 128, BRAIN, True, True, _NARROW),
    AttnShape((2048,) * 8, (512,) * 8, 4, 128, BRAIN),
    AttnShape((2048,) * 8, (512,) * 8, 8, 64, BRAIN),
    AttnShape((256,) * 32, (256,) * 32, 4, 32, BRAIN),
    AttnShape((0,), (1024,), 4, 128, BRAIN, causal=True),
    AttnShape((1000, 0, 70), (300, 70, 1), 4, 32, FULL),
)
ROWS = (RowsShape(4096, 16, 128, BRAIN), RowsShape(512, 4, 128, BRAIN))
CROSS = (
    CrossShape(32768, 512, 128, 3, BRAIN),
    CrossShape(4096, 512, 128, 3, BRAIN),
    CrossShape(512, 512, 128, 3, BRAIN),
    CrossShape(512, 256, 64, 2, BRAIN),
    CrossShape(512, 100, 32, 2, BRAIN),
    CrossShape(1, 64, 16, 1, FULL),
    CrossShape(256, 112, 16, 1, FULL, apart=True),
    CrossShape(256, 128, 16, 2, FULL),
    CrossShape(32768, 512, 128, 1, BRAIN, apart=True),
    CrossShape(32768, 500, 100, 3, HALF),
)
BAGS = (
    BagShape(256, 512, 128, 100_000, 20, HALF),
    BagShape(256, 64, 64, 1_000_000, 10, HALF),
    BagShape(1, 64, 64, 1_000_000, 10, HALF),
    BagShape(1, 16, 16, 10_000, 4, FULL),
    BagShape(256, 16, 16, 10_000, 4, FULL, mean=True),
    BagShape(64, 8, 200, 50_000, 30, HALF, mean=True),
)
COUNTS = (1, 2, 15, 16, 17, 300)  # counts that would each compile anew if they were specialised

CASES: tuple[Callable[[str], Case], ...] = (
    *(partial(attn_case, shape) for shape in ATTENTIONS),
    *(partial(gather_case, shape) for shape in GATHERS),
    *(partial(topk_case, shape) for shape in TOPKS),
    *(partial(bag_case, shape) for shape in BAGS),
    *(partial(quantised_bag_case, shape) for shape in QUANTISED_BAGS),
    *(partial(scatter_case, shape) for shape in SCATTERS),
    *(partial(norm_gate_case, shape) for shape in ROWS),
    *(partial(kv_write_case, shape) for shape in ROWS),
    *(partial(cross_case, shape) for shape in CROSS),
)
FIRST_CASES = len(ATTENTIONS) + len(GATHERS) + len(TOPKS)  # measured before all else


def parts(rig: Rig, mark: Stamp, ceilings: Ceilings) -> dict[str, Callable[[], Iterable[Row]]]:
    """What is measured besides single kernels. Imported when begun: a machine without what one
    of them needs can measure the others."""

    def model() -> Iterable[Row]:
        from predawn.bench.gpu_model import model_rows

        return model_rows(rig, mark, ceilings)

    def launch() -> Iterable[Row]:
        from predawn.bench.gpu_launch import launch_rows

        return launch_rows(rig, mark)

    def contention() -> Iterable[Row]:
        from predawn.bench.gpu_contention import contention_rows

        return contention_rows(rig, mark)

    def settings() -> Iterable[Row]:
        from predawn.bench.gpu_settings import settings_rows

        return settings_rows(rig, mark, ceilings)

    return {
        "foundation model": model,
        "launch": launch,
        "contention": contention,
        "settings": settings,
    }


def small_cases(device: str, count: int = 5) -> list[Case]:
    """Every kernel at a shape that fills no tile, of a size that depends on `count`."""
    some = (count, 0, 1 + count // 2)
    held = (count * 3, 70, 0)
    cut = tiling_of(BRAIN, 32, many=False)
    return [
        cross_case(CrossShape(count, 64, 16, 1), device),
        bag_case(BagShape(count, 4, 16, 100, 4), device),
        quantised_bag_case(QuantisedBagShape(count, 4, 16, 100, 4, weighted=True), device),
        gather_case(GatherShape(count, 32, 16, 8, 64, table=100), device),
        topk_case(TopkShape(min(count, FEW_USERS), 300, 32, 4), device),  # one class of settings
        scatter_case(ScatterShape(count, 64, kept=2, drift=True), device),
        norm_gate_case(RowsShape(count, 2, 32, BRAIN), device),
        kv_write_case(RowsShape(count * PAGE, 2, 32, BRAIN), device),
        attn_case(AttnShape(held, some, 2, 32, BRAIN, tiling=cut), device),
        attn_case(AttnShape(held, some, 2, 32, BRAIN, True, False, cut), device),
        attn_case(AttnShape(held, some, 2, 32, BRAIN, True, True, cut), device),
    ]


def compiles_after_warm_up(device: str, counts: Sequence[int] = COUNTS) -> int:
    """How many kernels Triton builds for the rest of `counts` after the first; must be 0."""
    for case in small_cases(device, counts[0]):
        case.kernel()
    counter = compiles.watch()
    for count in counts[1:]:
        for case in small_cases(device, count):
            case.kernel()
    counter.stop()
    return counter.count

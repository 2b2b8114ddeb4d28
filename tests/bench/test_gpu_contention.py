"""Requests beside background work: the queue is kept filled, and both graphs compute."""

import pytest
import torch
from gpu_host_rig import host_rig
from interpreted import DEVICE

from predawn.bench.gpu_cases_attention import AttnShape
from predawn.bench.gpu_cases_lookup import GatherShape
from predawn.bench.gpu_contention import (
    Call,
    CudaLanes,
    background_graph,
    contention_rows,
    online_graph,
    requests,
)
from predawn.bench.harness import Stamp

ONLINE = GatherShape(6, 16, 8, 4, 32, table=20)
BACKGROUND = AttnShape((70,), (3,), 1, 32, torch.bfloat16)


class OneAfterTheOther:
    """Both on the host; notes the order."""

    def __init__(self, online: Call, background: Call | None) -> None:
        self.online, self.background = online, background
        self.order: list[str] = []

    def fill(self) -> None:
        if self.background and not self.order:  # once: Triton's interpreter is slow
            self.background()
        self.order.append("fill")

    def online_us(self) -> float:
        self.order.append("online")
        self.online()
        return float(len(self.order))


def test_background_waits_before_every_request() -> None:
    lanes = OneAfterTheOther(lambda: None, None)
    taken = requests(lanes, 5)
    assert lanes.order == ["fill", "online"] * 15
    assert (taken.n, taken.median_us) == (5, 26.0)


def test_rows_of_alone_and_of_each_length_of_program() -> None:
    rows = contention_rows(
        *(host_rig(), Stamp("gpu", "", ""), OneAfterTheOther),
        online=ONLINE,
        background=BACKGROUND,
        chunks=(64, 128),
        count=2,
    )
    assert [(row.case, row.metric) for row in rows] == [
        (f"online request {name}", metric)
        for name in ("alone", "beside programs of 64 keys", "beside programs of 128 keys")
        for metric in ("p50", "p99")
    ]


def test_online_graph_is_a_probability_of_each_row() -> None:
    out = online_graph(ONLINE, DEVICE)()
    assert isinstance(out, torch.Tensor)
    assert out.shape == (6, 1) and bool(((out >= 0) & (out <= 1)).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_runs_both_lanes() -> None:
    lanes = CudaLanes(online_graph(ONLINE, "cuda"), background_graph(BACKGROUND, "cuda"))
    assert requests(lanes, 20).median_us > 0

"""What a launch costs: a node of a graph on the device, a graph and a kernel on the host."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from predawn.bench.gpu_rig import Rig
from predawn.bench.harness import Row, Stamp
from predawn.kernels.norm_gate_triton import constants, norm_gate_kernel, norm_gate_triton

_NODES = 100
_WIDTH = 128


def launch_rows(rig: Rig, mark: Stamp) -> Iterator[Row]:
    """Microseconds each; the smallest kernels, so that nothing but the launch is left."""
    one = torch.zeros(1, device=rig.device)

    def nodes(count: int) -> Callable[[], object]:
        def call() -> None:
            for _ in range(count):
                one.add_(1)

        return call

    few, many = (rig.timer.time(nodes(count)) for count in (1, 1 + _NODES))
    node = (many.median_us - few.median_us) / _NODES
    yield mark.row("launch: node of a graph, on the device", "time", node, "us", n=many.n)
    for name, call in (
        ("graph of 1 node, on the host", rig.timer.captured(nodes(1))),
        (f"graph of {_NODES} nodes, on the host", rig.timer.captured(nodes(_NODES))),
        ("eager torch operation, on the host", nodes(1)),
        ("Triton kernel, on the host", _kernel(rig)),
        ("Triton kernel as a torch operator, on the host", _operator(rig)),
    ):
        spent = rig.timer.host(call)
        yield mark.row(f"launch: {name}", "time", spent.median_us, "us", n=spent.n)


def _kernel(rig: Rig) -> Callable[[], object]:
    x, weight = _inputs(rig)
    fixed, out = constants(_WIDTH, _WIDTH, _WIDTH, 4), torch.empty_like(x)
    kernel: Any = norm_gate_kernel
    return lambda: kernel[(1,)](x, x, weight, weight, out, 1, 1e-5, **fixed)


def _operator(rig: Rig) -> Callable[[], object]:
    x, weight = _inputs(rig)
    return lambda: norm_gate_triton(x, x, weight, weight, 1e-5)


def _inputs(rig: Rig) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(1, _WIDTH, device=rig.device), torch.ones(_WIDTH, device=rig.device)

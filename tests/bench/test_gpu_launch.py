"""What a launch costs: every kind of launch has its row."""

from gpu_host_rig import host_rig

from predawn.bench.gpu_launch import launch_rows
from predawn.bench.harness import Stamp


def test_every_kind_of_launch_has_a_row() -> None:
    rows = list(launch_rows(host_rig(), Stamp("gpu", "", "")))
    assert [row.case.removeprefix("launch: ") for row in rows] == [
        "node of a graph, on the device",
        "graph of 1 node, on the host",
        "graph of 100 nodes, on the host",
        "eager torch operation, on the host",
        "Triton kernel, on the host",
        "Triton kernel as a torch operator, on the host",
    ]
    assert all(row.unit == "us" and row.value > 0 for row in rows[1:])

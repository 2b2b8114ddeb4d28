"""Columns in one piece of memory, and slabs that are reused only when they are free."""

import torch
from device_cases import Host

from predawn.server.models.device_staging import Column, Layout, StagingRing, fill

COLUMNS = (
    Column("ids", (3,), torch.int64),
    Column("bits", (2, 2), torch.bool),
    Column("dense", (), torch.float32),
)


def test_columns_lie_apart_aligned_and_as_wide_as_they_are() -> None:
    layout = Layout(COLUMNS, rows=5)
    memory = torch.zeros(layout.size_bytes, dtype=torch.uint8)
    views = layout.views(memory)
    assert {name: tuple(view.shape) for name, view in views.items()} == {
        "ids": (5, 3),
        "bits": (5, 2, 2),
        "dense": (5,),
    }
    starts = [view.data_ptr() - memory.data_ptr() for view in views.values()]
    assert all(start % 256 == 0 for start in starts)
    for value, view in enumerate(views.values(), 2):
        view.fill_(value)
    assert [view.flatten()[-1].item() for view in views.values()] == [2, True, 4.0]
    assert views["ids"].eq(2).all() and views["bits"].all() and views["dense"].eq(4).all()


def test_a_batch_fills_the_first_rows_is_converted_and_leaves_zeros_behind() -> None:
    layout = Layout(COLUMNS, rows=4)
    views = layout.views(torch.full((layout.size_bytes,), 1, dtype=torch.uint8))
    fill(
        views,
        {
            "ids": torch.arange(6).view(2, 3),
            "bits": torch.zeros((2, 2, 2), dtype=torch.bool),
            "dense": torch.tensor([0.5, 1.5], dtype=torch.float64),
        },
    )
    assert views["ids"].tolist() == [[0, 1, 2], [3, 4, 5], [0, 0, 0], [0, 0, 0]]
    assert not views["bits"].any()
    assert views["dense"].tolist() == [0.5, 1.5, 0, 0]


def test_a_slab_is_waited_for_only_when_its_copy_is_not_done() -> None:
    host = Host(lag=3)
    ring = StagingRing(host, 16, slabs=2)
    first, second = ring.next(), ring.next()
    assert first is not second and host.log == []
    first.done.record()
    assert ring.next() is first
    assert host.log == ["record", "wait"]
    assert ring.next() is second and host.log == ["record", "wait"]

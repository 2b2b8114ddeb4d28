"""cross_lowrank: every shape class passes the gates of tests/ahead_of_time.py."""

from ahead_of_time import Variant, compiled

SHAPES = [  # element, width, rank, x starts as x0
    ("bf16", 512, 128, True),
    ("bf16", 512, 128, False),
    ("fp16", 400, 100, True),
    ("bf16", 256, 64, False),
    ("bf16", 128, 16, False),
    ("fp16", 16, 8, True),
    ("fp32", 128, 16, False),
    ("fp32", 64, 16, True),
]


def variants() -> list[Variant]:
    """Read by tests/ahead_of_time.py in a process of its own."""
    from predawn.kernels.cross_lowrank_triton import constants, cross_lowrank_kernel

    pointers = [name for name in cross_lowrank_kernel.arg_names if name.endswith("_ptr")]
    listed = []
    for element, width, rank, same in SHAPES:
        types = dict.fromkeys(pointers, f"*{element}") | {"rows": "i64"}
        fixed = constants(width, rank, 3, 4 if element == "fp32" else 2, same)
        name = f"{element} {width} {same}"
        listed.append(Variant(name, cross_lowrank_kernel, types, fixed, products=True))
    return listed


def test_every_shape_class_passes_the_gates() -> None:
    built = compiled(__file__)
    assert len(built) == len(SHAPES)
    assert [fault for kernel in built for fault in kernel.faults()] == []

"""bag_pool: every shape class passes the gates of tests/ahead_of_time.py."""

from ahead_of_time import Variant, compiled

SHAPES = [  # element, out, width, weighted
    ("fp32", "fp32", 16, False),
    ("fp16", "fp16", 64, True),
    ("fp16", "fp16", 128, False),
    ("fp16", "fp16", 200, False),
    ("i8", "fp16", 128, False),
    ("i8", "fp32", 64, True),
]


def variants() -> list[Variant]:
    """Read by tests/ahead_of_time.py in a process of its own."""
    from predawn.kernels.bag_pool_triton import bag_pool_kernel, constants

    listed = []
    for element, out, width, weighted in SHAPES:
        types = {"rows_ptr": f"*{element}", "out_ptr": f"*{out}", "bags": "i64", "count": "i64"}
        types |= dict.fromkeys(("first_row_ptr", "ids_ptr", "offsets_ptr", "bad_ptr"), "*i64")
        types |= {"scale_ptr": f"*{out}"} if element == "i8" else {}
        types |= {"weights_ptr": "*fp32"} if weighted else {}
        absent = {name: None for name in bag_pool_kernel.arg_names if name not in types}
        fixed = absent | constants(width, 16, not weighted, element == "i8", weighted)
        listed.append(Variant(f"{element} {width} {weighted}", bag_pool_kernel, types, fixed))
    return listed


def test_every_shape_class_passes_the_gates() -> None:
    built = compiled(__file__)
    assert len(built) == len(SHAPES)
    assert [fault for kernel in built for fault in kernel.faults()] == []

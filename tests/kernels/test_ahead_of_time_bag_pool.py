"""bag_pool: every shape class passes the gates of tests/ahead_of_time.py."""

from ahead_of_time import Variant, compiled

SHAPES = [("fp32", 16), ("fp16", 64), ("fp16", 128), ("fp16", 200)]  # element, width


def variants() -> list[Variant]:
    """Read by tests/ahead_of_time.py in a process of its own."""
    from predawn.kernels.bag_pool_triton import bag_pool_kernel, constants

    listed = []
    for element, width in SHAPES:
        types = {"rows_ptr": f"*{element}", "out_ptr": f"*{element}", "bags": "i64", "count": "i64"}
        types |= dict.fromkeys(("first_row_ptr", "ids_ptr", "offsets_ptr", "bad_ptr"), "*i64")
        fixed = constants(width, 16, True)
        listed.append(Variant(f"{element} {width}", bag_pool_kernel, types, fixed))
    return listed


def test_every_shape_class_passes_the_gates() -> None:
    built = compiled(__file__)
    assert len(built) == len(SHAPES)
    assert [fault for kernel in built for fault in kernel.faults()] == []

"""gather_l1: every shape class passes the gates of tests/ahead_of_time.py."""

from ahead_of_time import Variant, compiled

SHAPES = [  # weights, (Di, P, F, h), rows, items, pairs, source
    ("bf16", (256, 128, 64, 512), 32768, "i8", "fp16", "u8"),
    ("bf16", (256, 128, 64, 512), 512, "i8", "fp16", "i64"),
    ("fp16", (128, 100, 33, 256), 4096, "fp16", "fp32", None),
    ("fp32", (32, 32, 8, 64), 512, "i8", "fp16", "u8"),
    ("fp32", (128, 128, 32, 256), 4096, "fp32", "fp32", None),
]
SAME = ("user", "miss", "dense", "w_item", "w_pair", "w_dense", "source_part", "out")
COUNTS = ("rows", "user_count", "item_count", "pair_count", "source_count")


def variants() -> list[Variant]:
    """Read by tests/ahead_of_time.py in a process of its own."""
    from predawn.kernels.gather_l1_triton import constants, gather_l1_kernel

    listed = []
    for weight, sizes, rows, items, pairs, source in SHAPES:
        types = {f"{name}_ptr": f"*{weight}" for name in SAME}
        types |= {f"{name}_ptr": "*i64" for name in ("row_user", "item", "pair")}
        types |= {"items_ptr": f"*{items}", "pairs_ptr": f"*{pairs}"}
        types |= dict.fromkeys(COUNTS, "i64")
        scaled, size = items == "i8", 4 if weight == "fp32" else 2
        fixed = constants(sizes, rows, size, scaled, source is not None, True)
        if scaled:
            types["scale_ptr"] = "*fp32"
        if source:
            types["source_ptr"] = f"*{source}"
        else:
            del types["source_part_ptr"]
        absent = {name: None for name in gather_l1_kernel.arg_names if name not in types}
        name = f"{weight} {sizes} R{rows} {items}"
        listed.append(Variant(name, gather_l1_kernel, types, absent | fixed, products=True))
    return listed


def test_every_shape_class_passes_the_gates() -> None:
    built = compiled(__file__)
    assert len(built) == len(SHAPES)
    assert [fault for kernel in built for fault in kernel.faults()] == []

"""score_topk: every shape class passes the gates of tests/ahead_of_time.py."""

from ahead_of_time import Variant, compiled

SHAPES = [  # element, p, users, K
    ("bf16", 64, 1024, 64),
    ("bf16", 256, 1024, 64),
    ("bf16", 64, 16, 64),
    ("fp16", 256, 1024, 256),
    ("fp32", 128, 16, 256),
    ("fp32", 128, 1024, 64),
]
COUNTS = ("user_count", "item_count", "slice_items", "lists")


def variants() -> list[Variant]:
    """Read by tests/ahead_of_time.py in a process of its own."""
    from predawn.kernels import score_topk_triton as triton_half

    listed = []
    for element, width, users, k in SHAPES:
        types = {"users_ptr": f"*{element}", "items_ptr": f"*{element}", "bias_ptr": "*fp32"}
        types |= {"keys_ptr": "*i64"} | dict.fromkeys(COUNTS[:3], "i64")
        fixed = triton_half.constants(width, users, k, 4 if element == "fp32" else 2, True)
        name = f"{element} p{width} U{users} K{k}"
        kernel = triton_half.score_topk_kernel
        listed.append(Variant(name, kernel, types, fixed, products=True))
    types = dict.fromkeys(("keys_ptr", "merged_ptr", "index_ptr"), "*i64")
    types |= {"scores_ptr": "*fp32", "lists": "i64"}
    for last in (True, False):
        fixed = triton_half.merge_constants(64, last)
        listed.append(Variant(f"merge K64 {last}", triton_half.merge_kernel, types, fixed))
    return listed


def test_every_shape_class_passes_the_gates() -> None:
    built = compiled(__file__)
    assert len(built) == len(SHAPES) + 2
    assert [fault for kernel in built for fault in kernel.faults()] == []

"""stabilise_quant_scatter: every shape class passes the gates of tests/ahead_of_time.py."""

from ahead_of_time import Variant, compiled

SHAPES = [  # new, width, kept, int8, exponential, clipped, drift
    ("bf16", 1024, 2, True, False, True, True),
    ("fp32", 1024, 0, True, True, True, True),
    ("fp32", 64, 2, False, False, False, False),
    ("bf16", 4096, 2, True, False, True, True),
]
IDS = ("slots_ptr", "sequence_ptr", "latest_ptr")


def variants() -> list[Variant]:
    """Read by tests/ahead_of_time.py in a process of its own."""
    from predawn.kernels import stabilise_quant_scatter_triton as triton_half

    ids = dict.fromkeys(IDS, "*i64") | {"slot_count": "i64"}
    claim = (triton_half.claim_kernel, ids | {"rows": "i64"}, {"BLOCK": 256})
    listed = [Variant("claim", *claim, registers_max=64)]
    for new, width, kept, int8, *modes in SHAPES:
        types = ids | {"weight": "fp32", "norm_max": "fp32", "drift_ptr": "*fp32"}
        types |= {"new_ptr": f"*{new}", "served_ptr": "*i8" if int8 else "*fp16"}
        types |= {"scale_ptr": "*fp32"} if int8 else {}
        types |= {"kept_ptr": "*fp16"} if kept else {}
        kernel = triton_half.write_kernel
        absent = {name: None for name in kernel.arg_names if name not in types}
        fixed = absent | triton_half.constants(width, kept, int8, *modes)
        listed.append(Variant(f"{new} {width} {modes}", kernel, types, fixed, registers_max=128))
    return listed


def test_every_shape_class_passes_the_gates() -> None:
    built = compiled(__file__)
    assert len(built) == len(SHAPES) + 1
    assert [fault for kernel in built for fault in kernel.faults()] == []

"""The gates catch what they are there for, and every kernel's shape classes pass them.

Each kernel's classes are in a file of their own, test_ahead_of_time_*.py.
"""

from typing import Any

import pytest
from ahead_of_time import (
    REGISTERS_MAX,
    SHARED_BYTES_MAX,
    Built,
    Variant,
    compiled,
    tensor_core_instructions,
)

GOOD = {"name": "k", "registers": REGISTERS_MAX, "stack": 0, "shared": SHARED_BYTES_MAX}
GOOD |= {
    "local": 0,
    "tensor_core": 1,
    "specialised": [],
    "products": True,
    "registers_max": REGISTERS_MAX,
}


def variants() -> list[Variant]:
    """One that fits, one whose tile is too large for a program's registers, one with two counts."""
    import triton
    import triton.language as tl

    from predawn.kernels.cross_lowrank_triton import constants, cross_lowrank_kernel

    pointers = [name for name in cross_lowrank_kernel.arg_names if name.endswith("_ptr")]
    types = dict.fromkeys(pointers, "*bf16") | {"rows": "i64"}
    small = constants(128, 16, 1, 2, True)
    large = constants(512, 16, 1, 2, True) | {"BLOCK_M": 64, "num_warps": 4}
    named = (("fits", small), ("too large", large))

    @triton.jit(do_not_specialize=["kept"])
    def add(out_ptr, kept, compiled_for):
        tl.store(out_ptr, kept + compiled_for)

    counts = {"out_ptr": "*i64", "kept": "i64", "compiled_for": "i64"}
    listed = [Variant(name, cross_lowrank_kernel, types, fixed, True) for name, fixed in named]
    return [*listed, Variant("counts", add, counts, {})]


def test_a_spill_and_a_specialised_count_of_real_kernels_are_seen() -> None:
    fits, large, counts = compiled(__file__)
    assert fits.faults() == []
    assert [fault.split(" ")[-1] for fault in large.faults()][:1] == ["stack"]
    assert large.local > 0
    assert counts.faults() == ["counts: compiled anew for values of ['compiled_for']"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"products": False, "tensor_core": 0}, None),
        ({"stack": 8}, "8 bytes of stack"),
        ({"local": 2}, "2 local loads and stores"),
        ({"registers_max": 128}, "255 registers"),
        ({"shared": SHARED_BYTES_MAX + 1}, f"{SHARED_BYTES_MAX + 1} bytes of shared memory"),
        ({"specialised": ["rows"]}, "compiled anew for values of ['rows']"),
        ({"tensor_core": 0}, "no tensor-core instruction"),
    ],
    ids=str,
)
def test_each_gate(change: dict[str, Any], fault: str | None) -> None:
    assert Built(**(GOOD | change)).faults() == ([] if fault is None else [f"k: {fault}"])


@pytest.mark.parametrize(
    ("sass", "count"),
    [
        (
            "/*1f0*/ HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4] ;\n HMMA.16816.F32 R4, R8, R10, R4 ;",
            2,
        ),
        ("QGMMA.64x8x32 R0 ;\nIMMA.16832.S8.S8 R4, R8, R10, R4 ;", 2),
        ("HFMA2.MMA R21, -RZ, RZ, 3.49609375, 0 ;\nIMAD.MOV.U32 R1, RZ, RZ, R2 ;", 0),
    ],
)
def test_tensor_core_instructions_are_told_from_their_like(sass: str, count: int) -> None:
    assert tensor_core_instructions(sass) == count

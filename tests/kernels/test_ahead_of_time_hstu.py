"""hstu_prefix_attn, norm_gate and kv_write: every shape class compiles for sm_90 in its limits."""

import pytest
from ahead_of_time import Built, Variant, compiled

from predawn.kernels.hstu_prefix_attn import TILINGS

WIDE = {"bf16": 2, "fp16": 2, "fp32": 4}


def variants() -> list[Variant]:
    """All settings of the attention, in each of its modes; both small kernels, narrow and wide."""
    return [*_attention(), *_sums(), *_gates(), *_writes()]


def _attention() -> list[Variant]:
    from predawn.kernels import hstu_prefix_attn_triton as attention

    found: list[Variant] = []
    for (size, dim, many), tiling in TILINGS.items():
        element, heads = "bf16" if size == 2 else "fp32", 16
        types = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "pages_ptr", "out_ptr"), f"*{element}")
        types |= {"table_ptr": "*i32", "tiles_ptr": "*i32", "partial_ptr": "*fp32"}
        types |= {"table_width": "i32", "alpha": "fp32", "inv_n": "fp32"}
        strides = (4 * heads * dim, dim)
        for causal, written in ((False, False), (True, False), (True, True)):
            fixed = attention.constants(heads, dim, strides, size, tiling)
            fixed |= {"CAUSAL": causal, "WRITTEN": written}
            name = f"attention {element} d{dim} {'many' if many else 'few'} {causal} {written}"
            found.append(Variant(name, attention.hstu_prefix_attn_kernel, types, fixed, True))
    return found


def _sums() -> list[Variant]:
    from predawn.kernels.hstu_prefix_attn_triton import add_partials_kernel

    types = {"partial_ptr": "*fp32", "sums_ptr": "*i32", "out_ptr": "*bf16", "inv_n": "fp32"}
    shapes = ((128, 16, 4), (128, 128, 8))
    return [
        Variant(
            f"sums d{dim} {rows}",
            add_partials_kernel,
            types,
            {"HEADS": 16, "DIM": dim, "BLOCK_M": rows, "num_warps": warps},
        )
        for dim, rows, warps in shapes
    ]


def _gates() -> list[Variant]:
    from predawn.kernels.norm_gate_triton import constants, norm_gate_kernel

    found: list[Variant] = []
    for element, width in (("bf16", 64), ("bf16", 2048), ("bf16", 8192), ("fp32", 8192)):
        pointers = [name for name in norm_gate_kernel.arg_names if name.endswith("_ptr")]
        types = dict.fromkeys(pointers, f"*{element}") | {"rows": "i64", "eps": "fp32"}
        fixed = constants(width, width, 4 * width, WIDE[element])
        found.append(Variant(f"gate {element} {width}", norm_gate_kernel, types, fixed))
    return found


def _writes() -> list[Variant]:
    from predawn.kernels.kv_write_triton import constants, kv_write_kernel

    found: list[Variant] = []
    for element, heads, dim in (("bf16", 2, 32), ("bf16", 16, 128), ("fp32", 4, 128)):
        types = dict.fromkeys(("k_ptr", "v_ptr", "pages_ptr"), f"*{element}")
        types |= {"slots_ptr": "*i64", "rows": "i64", "slots_end": "i64"}
        fixed = constants(heads, dim, (4 * heads * dim, dim), WIDE[element])
        found.append(Variant(f"write {element} d{dim}", kv_write_kernel, types, fixed))
    return found


@pytest.fixture(scope="module")
def built() -> list[Built]:
    return compiled(__file__)


def test_every_shape_class_fits_an_h100(built: list[Built]) -> None:
    assert len(built) == 9 * 3 + 2 + 4 + 3
    assert [fault for kernel in built for fault in kernel.faults()] == []


def test_keys_are_fetched_ahead(built: list[Built]) -> None:
    """Shared memory holds as many blocks of keys and values as there are stages (one fewer without
    wgmma, which reads them from registers) beside the queries: else each block is waited for."""
    for number, ((size, dim, many), cut) in enumerate(TILINGS.items()):
        blocks = cut.stages if many else cut.stages - 1
        wanted = (cut.rows + 2 * blocks * cut.keys) * dim * size
        for kernel in built[3 * number : 3 * number + 3]:
            assert kernel.shared >= wanted, kernel.name

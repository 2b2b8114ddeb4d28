"""Every shape class compiles for sm_90 without a GPU, within the limits of an H100.

Gates: no spill (stack, local loads and stores), registers and shared memory that one program may
have, and tensor-core instructions where there are products.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import pytest

SHARED_BYTES_MAX = 232_448
REGISTERS_MAX = 255

CROSS = [  # element, width, rank, x starts as x0
    ("bf16", 512, 128, True),
    ("bf16", 512, 128, False),
    ("fp16", 400, 100, True),
    ("bf16", 256, 64, False),
    ("bf16", 128, 16, False),
    ("fp16", 16, 8, True),
    ("fp32", 128, 16, False),
    ("fp32", 64, 16, True),
]
BAGS = [("fp32", 16), ("fp16", 64), ("fp16", 128), ("fp16", 200)]  # element, width


@dataclass(frozen=True, slots=True)
class Built:
    """What the assembler says of one compiled kernel."""

    name: str
    registers: int
    stack: int
    shared: int
    local: int
    tensor_core: int


def compile_all() -> list[dict[str, object]]:
    """Runs in a process without the interpreter."""
    from predawn.kernels import bag_pool_triton, cross_lowrank_triton

    bytes_of = {"bf16": 2, "fp16": 2, "fp32": 4}
    built: list[dict[str, object]] = []
    for element, width, rank, same in CROSS:
        fixed = cross_lowrank_triton.constants(width, rank, 3, bytes_of[element], same)
        kernel = cross_lowrank_triton.cross_lowrank_kernel
        pointers = [name for name in kernel.arg_names if name.endswith("_ptr")]
        types = dict.fromkeys(pointers, f"*{element}")
        built.append(_compile(f"cross {element} {width}", kernel, types | {"rows": "i64"}, fixed))
    for element, width in BAGS:
        fixed = bag_pool_triton.constants(width, 16, True)
        types = {"rows_ptr": f"*{element}", "out_ptr": f"*{element}", "bags": "i64", "count": "i64"}
        types |= dict.fromkeys(("first_row_ptr", "ids_ptr", "offsets_ptr", "bad_ptr"), "*i64")
        kernel = bag_pool_triton.bag_pool_kernel
        built.append(_compile(f"bag {element} {width}", kernel, types, fixed))
    return built


def _compile(name: str, kernel, types: dict[str, str], fixed: dict) -> dict[str, object]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    options = {key: fixed[key] for key in ("num_warps", "num_stages") if key in fixed}
    places = {arg: number for number, arg in enumerate(kernel.arg_names)}
    source = ASTSource(
        fn=kernel,
        signature={arg: types.get(arg, "constexpr") for arg in kernel.arg_names},
        constexprs={(places[arg],): value for arg, value in fixed.items() if arg in places},
        attrs={(places[arg],): [["tt.divisibility", 16]] for arg in types if "ptr" in arg},
    )
    done = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return {"name": name, "shared": done.metadata.shared, **_inspect(done.asm["cubin"])}


def _inspect(cubin: bytes) -> dict[str, int]:
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        usage, sass = (
            subprocess.run([tool, what, file.name], capture_output=True, text=True, check=True)
            for what in ("-res-usage", "-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr)
    assert found is not None
    return {
        "registers": int(found[1]),
        "stack": int(found[2]),
        "local": len(re.findall(r"\b(?:LDL|STL)\b", sass.stdout)),
        "tensor_core": len(re.findall(r"\bH?G?MMA", sass.stdout)),
    }


@pytest.fixture(scope="module")
def built() -> list[Built]:
    pytest.importorskip("triton", reason="needs Triton")
    path = os.path.dirname(__file__)
    code = "import json, sys, test_ahead_of_time as t; print(json.dumps(t.compile_all()))"
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    paths = os.pathsep.join([path, env.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Built(**kernel) for kernel in json.loads(done.stdout)]


def test_every_variant_was_compiled(built: list[Built]) -> None:
    assert len(built) == len(CROSS) + len(BAGS)


def test_nothing_spills(built: list[Built]) -> None:
    assert [kernel for kernel in built if kernel.stack or kernel.local] == []


def test_registers_and_shared_memory_fit(built: list[Built]) -> None:
    too_many = [k for k in built if k.registers > REGISTERS_MAX or k.shared > SHARED_BYTES_MAX]
    assert too_many == []


def test_products_use_the_tensor_cores(built: list[Built]) -> None:
    assert [k for k in built if k.name.startswith("cross") and not k.tensor_core] == []

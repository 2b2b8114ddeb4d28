"""Compiles kernels for sm_90 without a GPU and reads what the assembler says of them.

A test file lists its kernels' shape classes in a function `variants() -> list[Variant]`;
`compiled(__file__)` compiles them in a process of its own, because a process that chose Triton's
interpreter cannot compile, and returns one `Built` each. `Built.faults()` are the gates: no spill
(stack, local loads and stores), the registers and shared memory that one program may have on an
H100 or H200, tensor-core instructions where there are products, and no integer argument whose
value Triton would compile anew for.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

SHARED_BYTES_MAX = 232_448
REGISTERS_MAX = 255


@dataclass(frozen=True, slots=True)
class Variant:
    """One shape class of a kernel.

    types: of the arguments that are no constants ("*bf16", "i64"); fixed: the constants and launch
    options, as the kernel's own `constants(...)` gives them (None: a pointer that is not given).
    """

    name: str
    kernel: Any
    types: dict[str, str]
    fixed: dict[str, Any]
    products: bool = False
    registers_max: int = REGISTERS_MAX


@dataclass(frozen=True, slots=True)
class Built:
    """What the assembler says of one compiled variant."""

    name: str
    registers: int
    stack: int
    shared: int
    local: int
    tensor_core: int
    specialised: list[str]
    products: bool
    registers_max: int

    def faults(self) -> list[str]:
        """The gates that it does not pass."""
        gates = (
            (self.stack > 0, f"{self.stack} bytes of stack"),
            (self.local > 0, f"{self.local} local loads and stores"),
            (self.registers > self.registers_max, f"{self.registers} registers"),
            (self.shared > SHARED_BYTES_MAX, f"{self.shared} bytes of shared memory"),
            (bool(self.specialised), f"compiled anew for values of {self.specialised}"),
            (self.products and not self.tensor_core, "no tensor-core instruction"),
        )
        return [f"{self.name}: {text}" for failed, text in gates if failed]


def compiled(test_file: str) -> list[Built]:
    """The variants of `test_file`, compiled by Triton in a process without the interpreter."""
    pytest.importorskip("triton", reason="needs Triton")
    tests = str(Path(__file__).parent)
    paths = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", "import ahead_of_time as a; a.print_built()", test_file],
        env=env | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Built(**built) for built in json.loads(done.stdout.splitlines()[-1])]


def print_built() -> None:
    """The process of its own: the file named on the command line, one JSON list."""
    spec = importlib.util.spec_from_file_location("listed", sys.argv[1])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print(json.dumps([asdict(build(variant)) for variant in module.variants()]))


def build(variant: Variant) -> Built:
    """Compiles one variant. Pointers are taken to be aligned to 16 bytes, as torch's are."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names, fixed = variant.kernel.arg_names, variant.fixed
    places = {name: number for number, name in enumerate(names)}
    source = ASTSource(
        fn=variant.kernel,
        signature={name: variant.types.get(name, "constexpr") for name in names},
        constexprs={(places[name],): value for name, value in fixed.items() if name in places},
        attrs={
            (places[name],): [["tt.divisibility", 16]]
            for name, kind in variant.types.items()
            if kind.startswith("*")
        },
    )
    options = {key: value for key, value in fixed.items() if key not in places}
    done = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    return Built(
        name=variant.name,
        shared=done.metadata.shared,
        specialised=[
            parameter.name
            for parameter in variant.kernel.params
            if re.fullmatch(r"[iu]\d+", variant.types.get(parameter.name, ""))
            and not parameter.do_not_specialize
        ],
        products=variant.products,
        registers_max=variant.registers_max,
        **_inspect(done.asm["cubin"]),
    )


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
        "tensor_core": tensor_core_instructions(sass.stdout),
    }


def tensor_core_instructions(sass: str) -> int:
    """How many there are. HFMA2.MMA, which moves constants, is none."""
    return len(re.findall(r"(?<![\w.])[HIQ]G?MMA\b", sass))

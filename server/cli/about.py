"""`predawn version` and `predawn collect-env`: what runs here. Says nothing of who runs it."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from predawn.server.cli.options import Json
from predawn.server.cli.output import Output

_PACKAGES = (
    "torch", "triton", "numpy", "aiohttp", "uvloop", "httptools", "orjson", "pydantic", "lmdb",
    "safetensors", "pyarrow", "typer", "rich", "prometheus-client",
)  # fmt: skip
_EXTENSIONS = ("predawn.csrc._core", "predawn.csrc._codec")
_GPU_FIELDS = "name,memory.total,driver_version"


def version(
    short: Annotated[bool, typer.Option("--short", help="The number alone.")] = False,
    json_: Json = None,
) -> None:
    """Prints the version. Example: predawn version --short"""
    number = installed("predawn") or "0 (not installed as a package)"
    python = platform.python_version()
    output = Output(json_)
    output.console.print(number if short else f"predawn {number} (Python {python})", markup=False)
    output.document({"predawn": number, "python": python})


def collect_env(json_: Json = None) -> None:
    """Prints versions, processor, memory, GPU and extensions: what a bug report needs.

    Example: predawn collect-env --json env.json
    """
    from rich.table import Table

    found = environment()
    output = Output(json_)
    table = Table("what", "found", show_header=False)
    for name, value in found.items():
        rows = value if isinstance(value, dict) else {name: value}
        for key, each in rows.items():
            text = ", ".join(map(str, each)) if isinstance(each, list) else str(each)
            table.add_row(str(key), text or "none")
    output.console.print(table)
    output.document(found)


def environment() -> dict[str, object]:
    """Facts by name, ready for JSON."""
    return {
        "predawn": installed("predawn") or "not installed as a package",
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "kernel": platform.release(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_available_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"),
        "gpus": _gpus(),
        "packages": {name: installed(name) or "absent" for name in _PACKAGES},
        "extensions": {name: _built(name) for name in _EXTENSIONS},
    }


def installed(package: str) -> str:
    """Version of an installed package, "" where it is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _built(extension: str) -> str:
    try:
        importlib.import_module(extension)
    except ImportError as error:
        return f"not usable: {error}"
    return "built"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def _gpus() -> list[str]:
    """One line per NVIDIA GPU, as the driver's own tool tells; [] without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"nvidia-smi failed: {error}"]
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return lines if done.returncode == 0 else [f"nvidia-smi failed: {done.stderr.strip()}"]

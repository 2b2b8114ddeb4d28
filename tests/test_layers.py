"""Layers hold (import-linter, pyproject.toml), and a planted violation of each is named."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("server", "kernels", "bench", "csrc")


def _lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Runs the contracts on root/predawn/{server,kernels,bench,csrc}."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
    ]
    return subprocess.run(
        [*command, "--no-cache", "--config", str(root / "pyproject.toml")],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The Python files of the tree as a plain namespace package, to plant violations in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / "predawn" / folder, ignore=ignore)
    return tmp_path


def test_layers_hold(copy: Path) -> None:
    done = _lint(copy)
    assert done.returncode == 0, done.stdout
    assert re.search(r"Contracts: \d+ kept, 0 broken", done.stdout)


PLANTED = [
    ("server/pipeline.py", "import predawn.server.refresher", "predawn.server.refresher"),
    ("server/batcher.py", "import predawn.server.cache", "predawn.server.cache"),
    ("server/policy.py", "import predawn.server.engine", "predawn.server.engine"),
    ("server/http/__init__.py", "import predawn.server.wiring", "predawn.server.wiring"),
    ("server/wiring.py", "import predawn.bench", "predawn.bench"),
    ("kernels/launch.py", "import predawn.server.request", "predawn.server.request"),
    ("csrc/__init__.py", "import predawn.kernels", "predawn.kernels"),
    ("server/policy.py", "import torch", "torch"),
    ("server/pipeline.py", "import aiohttp", "aiohttp"),
    ("server/wiring.py", "import lmdb", "lmdb"),
    ("server/batcher.py", "import predawn.kernels", "predawn.kernels"),
    ("server/models/__init__.py", "import triton", "triton"),
    ("server/tables.py", "", "predawn.server"),
]


@pytest.mark.parametrize(("path", "line", "named"), PLANTED)
def test_planted_violation_is_named(copy: Path, path: str, line: str, named: str) -> None:
    file = copy / "predawn" / path
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    file.write_text(f"{before}\n{line}\n", encoding="utf-8")
    done = _lint(copy)
    assert done.returncode == 1, done.stdout
    importer = f"predawn.{path.removesuffix('.py').removesuffix('/__init__')}".replace("/", ".")
    assert f"- {importer} -> {named} " in done.stdout or f"- {importer}\n" in done.stdout

"""The house's rules hold for the whole tree, and each rule catches what it is for."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import house_rules as rules
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("server", "kernels", "bench", "csrc")
CODE = (".py", ".pyi", ".pyx", ".pxd", ".cpp", ".hpp", ".sh")
TEXT = (*CODE, ".md", ".toml", ".yml", ".cfg", ".in", "")

# Source files without a test named after them, and the test that covers them.
COVERED_BY = {
    "bench/workload_labels.py": "tests/bench/test_workload.py",
    "bench/workload_lists.py": "tests/bench/test_workload.py",
    "bench/workload_times.py": "tests/bench/test_workload.py",
    "csrc/bag_pool_portable.hpp": "tests/csrc/test_bag_pool.py",
    "csrc/bag_pool_x86.hpp": "tests/csrc/test_bag_pool.py",
    "csrc/bindings.hpp": "tests/csrc/test_arrays.py",
    "csrc/convert_neon.hpp": "tests/csrc/convert_test.cpp",
    "csrc/convert_portable.hpp": "tests/csrc/convert_test.cpp",
    "csrc/convert_x86.hpp": "tests/csrc/convert_test.cpp",
    "csrc/dense_portable.hpp": "tests/csrc/dense_test.cpp",
    "csrc/dense_x86.hpp": "tests/csrc/dense_test.cpp",
    "csrc/dlpack.hpp": "tests/csrc/test_arrays.py",
    "csrc/header.hpp": "tests/csrc/layout_test.cpp",
    "csrc/predictor_activity.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/predictor_calibration.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/predictor_decay.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/predictor_examples.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/predictor_factors.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/predictor_items.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/predictor_pairs.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/predictor_slots.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/predictor_users.hpp": "tests/csrc/predictor_test.cpp",
    "csrc/stored_rows.hpp": "tests/csrc/test_first_layer.py",
    "server/__main__.py": "tests/server/cli/test_app.py",
    "server/models/contract.py": "tests/server/models/test_loading.py",
    "server/speculation/contract.py": "tests/server/speculation/test_planner.py",
    "server/speculation/limits.py": "tests/server/test_wiring_pairs.py",
}

Rule = Callable[[str, str], list[str]]


def _walk(folder: str) -> Iterator[Path]:
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
            yield path


def _tree(*suffixes: str, folders: tuple[str, ...] = SOURCES) -> dict[str, str]:
    """Relative path -> text of the files with one of the suffixes; "." is the root's own files."""
    own = [path for path in sorted(ROOT.iterdir()) if path.is_file()] if "." in folders else []
    inside = [path for folder in folders if folder != "." for path in _walk(folder)]
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in [*own, *inside]
        if path.suffix in suffixes
    }


ALL = (".", *SOURCES, "tests", "docs", "examples", ".ci")
WHOLE: list[tuple[Rule, dict[str, str]]] = [
    (rules.too_long, _tree(*CODE, folders=ALL)),
    (rules.too_wide, _tree(*CODE, ".md", folders=ALL)),
    (rules.long_functions, _tree(".py", ".pyx", ".pxd", ".cpp", ".hpp", folders=ALL)),
    (rules.banned_calls, _tree(".py")),
    (rules.sleep_polling, _tree(".py")),
    (rules.native_imports, _tree(".py")),
    (rules.left_over_marks, _tree(*TEXT, folders=ALL)),
    (rules.machine_paths, _tree(*TEXT, folders=ALL)),
    (rules.banned_names, _tree(*CODE, folders=ALL)),
    (rules.unnamed_skips, _tree(".py", folders=("tests",))),
    (rules.undocumented, _tree(".py", folders=(*SOURCES, "examples"))),
    (rules.unsafe_shell, _tree(".sh", folders=ALL)),
]


@pytest.mark.parametrize(("rule", "files"), WHOLE, ids=[rule.__name__ for rule, _ in WHOLE])
def test_tree_keeps_the_rule(rule: Rule, files: dict[str, str]) -> None:
    assert files
    broken = [line for path, text in files.items() for line in rule(path, text)]
    assert not broken, "\n".join(broken)


def test_medians_stay_small(record_property: Callable[[str, object], None]) -> None:
    files = {p: t for p, t in _tree(".py").items() if not p.endswith("__init__.py")}
    file_lines = [text.count("\n") for text in files.values()]
    function_lines = [n for p, t in files.items() for _, _, n in rules.functions(p, t)]
    record_property("file_median", median(file_lines))
    record_property("function_median", median(function_lines))
    assert not rules.large_medians(file_lines, function_lines)


def test_every_source_file_has_a_test() -> None:
    sources = [p for p in _tree(".py", ".pyx", ".hpp") if not p.endswith("__init__.py")]
    tests = list(_tree(".py", ".cpp", folders=("tests",)))
    broken = rules.untested(sources, tests, list(COVERED_BY))
    assert not broken, "\n".join(broken)


def test_exemptions_name_files_that_exist() -> None:
    named = [*COVERED_BY, *COVERED_BY.values()]
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_decisions_are_numbered_without_gaps() -> None:
    assert not rules.decision_gaps([path.name for path in _walk("docs/decisions")])


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").count("\n")
    assert lines <= rules.README_LINES_MAX


def test_make_never_resolves_a_free_torch() -> None:
    setup = (ROOT / ".ci/setup.sh").read_text(encoding="utf-8")
    asked = re.findall(r'"(torch|triton)([^"]*)"', setup)
    assert asked == [("torch", ">=2.11,<2.14"), ("torch", "==2.13.0"), ("triton", "==3.7.1")]


def test_ci_runs_make_test() -> None:
    run = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in run and run.rstrip().endswith("make test")


ASYNC = "import asyncio\n"
PLANTED: list[tuple[Rule, str, str, int]] = [
    (rules.too_long, "server/x.py", "\n" * 401, 1),
    (rules.too_long, "server/x.py", "\n" * 400, 0),
    (rules.too_wide, "server/x.py", "x" * 101, 1),
    (rules.too_wide, "docs/x.md", "| " + "x" * 100, 0),
    (rules.long_functions, "server/x.py", "def f():\n" + "    a\n" * 70, 1),
    (rules.long_functions, "server/x.py", "def f():\n" + "    a\n" * 69, 0),
    (rules.long_functions, "csrc/x.pyx", "cdef int f(int a) noexcept:\n" + "    a\n" * 70, 1),
    (rules.long_functions, "csrc/x.pyx", "cdef int f(\n    int a,\n):\n" + "    a\n" * 67, 0),
    (
        rules.long_functions,
        "csrc/x.hpp",
        "struct X {\nint f() const {\n" + "a();\n" * 70 + "}};",
        1,
    ),
    (
        rules.long_functions,
        "csrc/x.hpp",
        "namespace a {\n" + "int f() { if (x) { y; } }\n" * 80 + "}",
        0,
    ),
    (rules.banned_calls, "server/x.py", "import time\ntime.monotonic()", 1),
    (rules.banned_calls, "server/x.py", "from time import sleep as nap\nnap(1)", 1),
    (rules.banned_calls, "server/clock.py", "import time\ntime.monotonic()", 0),
    (rules.banned_calls, "server/x.py", "print(1)", 1),
    (rules.banned_calls, "bench/x.py", "print(1)", 0),
    (rules.banned_calls, "server/x.py", "import pickle\npickle.loads(b'')", 1),
    (rules.banned_calls, "server/x.py", "eval('1')", 1),
    (rules.banned_calls, "server/x.py", "model.eval()", 0),
    (rules.banned_calls, "server/x.py", "import torch\ntorch.load('a')", 1),
    (rules.banned_calls, "server/x.py", "import random\nrandom.random()", 1),
    (rules.banned_calls, "server/x.py", "import random\nrandom.Random(1).random()", 0),
    (rules.banned_calls, "server/x.py", "import numpy as np\nnp.random.rand(3)", 1),
    (rules.banned_calls, "server/x.py", "import numpy as np\nnp.random.default_rng()", 1),
    (rules.banned_calls, "server/x.py", "import numpy as np\nnp.random.default_rng(1)", 0),
    (rules.sleep_polling, "server/x.py", f"{ASYNC}while not x:\n  await asyncio.sleep(0.1)", 1),
    (rules.sleep_polling, "server/x.py", f"{ASYNC}while not x:\n  await asyncio.sleep(step_s)", 1),
    (
        rules.sleep_polling,
        "server/x.py",
        f"{ASYNC}while 1:\n  await f()\n  await asyncio.sleep(9)",
        1,
    ),
    (
        rules.sleep_polling,
        "server/x.py",
        f"{ASYNC}while 1:\n  await f()\n  await asyncio.sleep(t)",
        0,
    ),
    (rules.sleep_polling, "server/x.py", f"{ASYNC}while 1:\n  await asyncio.sleep(0)", 0),
    (rules.sleep_polling, "server/x.py", f"{ASYNC}await asyncio.sleep(1)", 0),
    (rules.native_imports, "server/pipeline.py", "from predawn.csrc._core import siphash", 1),
    (rules.native_imports, "server/pipeline.py", "from predawn import csrc", 1),
    (rules.native_imports, "server/pipeline.py", "import predawn.csrc._codec", 1),
    (rules.native_imports, "server/cache_table.py", "from predawn.csrc import _core", 0),
    (rules.left_over_marks, "server/x.py", "# TO" + "DO later", 1),
    (rules.machine_paths, "docs/x.md", "see /wo" + "rk/main", 1),
    (rules.machine_paths, "docs/x.md", "see server/work/x or my.work/main", 0),
    (rules.banned_names, "server/utils.py", "", 1),
    (rules.banned_names, "server/x.py", "class StoreManager: ...", 1),
    (rules.banned_names, "server/x.py", "class Database: ...", 0),
    (rules.unnamed_skips, "tests/x.py", "pytest.skip('flaky')", 1),
    (rules.unnamed_skips, "tests/x.py", "pytest.mark.skipif(a, reason='needs Triton')", 0),
    (rules.unnamed_skips, "tests/x.py", "pytest.skip(f'needs the shared data: {path}')", 0),
    (rules.unnamed_skips, "tests/x.py", "pytest.importorskip('triton')", 1),
    (rules.unnamed_skips, "tests/x.py", "pytest.mark.xfail", 1),
    (rules.undocumented, "kernels/x.py", "def f(): ...", 1),
    (rules.undocumented, "server/x.py", '"""Doc."""\ndef f(): ...\nclass C: ...', 2),
    (rules.undocumented, "server/x.py", '"""Doc."""\ndef _f(): ...', 0),
    (rules.unsafe_shell, ".ci/x.sh", "#!/bin/bash\necho", 1),
]


@pytest.mark.parametrize(("rule", "path", "text", "count"), PLANTED)
def test_planted_violation_is_named(rule: Rule, path: str, text: str, count: int) -> None:
    broken = rule(path, text)
    assert len(broken) == count, broken
    assert all(line.startswith(path) for line in broken)


def test_planted_large_medians_are_named() -> None:
    assert len(rules.large_medians([151], [11])) == 2
    assert rules.large_medians([10, 150, 400], [1, 10, 70]) == []


def test_planted_untested_file_is_named() -> None:
    tests = ["tests/server/test_a.py", "tests/csrc/key_test.cpp", "tests/server/test_b_more.py"]
    sources = ["server/a.py", "server/b.py", "server/http/a.py", "csrc/key.hpp", "server/c.py"]
    broken = rules.untested(sources, tests, ["server/c.py"])
    assert [line.split(":")[0] for line in broken] == ["server/http/a.py"]


def test_planted_decision_gap_is_named() -> None:
    assert rules.decision_gaps(["0001-a.md", "0002-b-c.md"]) == []
    assert rules.decision_gaps(["0001-a.md", "0003-b.md"])
    assert rules.decision_gaps(["0001-A b.md"])

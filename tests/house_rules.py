"""The house's rules as pure functions: text of a file in, broken rules out, one line each.

`test_house.py` applies them to the tree and tests each on a planted violation. A rule that names
an allowed file names it here, in one table, with the reason.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from statistics import median

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
FILE_LINES_MEDIAN_MAX = 150
FUNCTION_LINES_MEDIAN_MAX = 10
README_LINES_MAX = 150

# What may not be called, what to do instead, and where it is allowed all the same.
PRINTS = ("server/cli/", "server/__main__.py", "bench/", "examples/")
BANNED_CALLS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"time\.\w+", "take a Clock", ("server/clock.py", "bench/", "tests/")),
    (r"datetime\.datetime\.(now|utcnow|today)", "take a Clock", ()),
    (r"print|rich\.print", "log, or return it to the command line", PRINTS),
    (r"eval|exec|compile", "no code from data", ("tests/",)),
    (r"(c?[pP]ickle|marshal|shelve|dill|joblib)\.\w+", "safetensors or JSON: no code in data", ()),
    (r"torch\.load", "safetensors", ()),
    (r"os\.system|subprocess\.getoutput", "subprocess.run with a list", ()),
    (r"random\.(?!Random$)\w+", "an injected random.Random(seed)", ()),
    (r"numpy\.random\.(?!default_rng$)[a-z]\w*", "numpy.random.default_rng(seed)", ()),
)
NEEDS_SEED = ("random.Random", "numpy.random.default_rng")

# Who may import the extensions (import-linter cannot see into compiled modules).
NATIVE_IMPORTERS = (
    "server/cache",
    "server/pair_",
    "server/history",
    "server/http/",
    "server/metrics",
    "server/models/",
    "server/replay/",
    "server/speculation/",
    "server/stabilise.py",
    "server/traces_data.py",
    "bench/",
    "csrc/",
)

BANNED_WORDS = {"manager", "helper", "helpers", "util", "utils", "base"}

# Why a test may skip; a skip's reason begins with one of these.
SKIP_REASONS = (
    "needs a CUDA device",
    "needs Triton",
    "needs a sanitizer runtime",
    "needs the shared data",
    "needs spin",
)

_MARKS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
_PATHS = re.compile(r"(?<![\w.}~-])/(?:work|root|home|Users|tmp)/\w|pythonhosted\.|index-" r"url")
_AFTER_PARAMETERS = re.compile(r"[\w\s:<>,&*-]*")  # const, noexcept, -> type
_CONTROL = re.compile(
    r"^\s*(?:else\s+)?(?:if|for|while|switch|catch|namespace|class|struct|enum)\b"
)


def too_long(path: str, text: str) -> list[str]:
    """Files over `FILE_LINES_MAX`."""
    lines = text.count("\n")
    return [f"{path}: {lines} lines, at most {FILE_LINES_MAX}"] if lines > FILE_LINES_MAX else []


def too_wide(path: str, text: str) -> list[str]:
    """Lines over `COLUMNS_MAX` columns; tables in Markdown cannot be wrapped."""
    markdown = path.endswith(".md")
    return [
        f"{path}:{number}: {len(line)} columns, at most {COLUMNS_MAX}"
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > COLUMNS_MAX and not (markdown and line.lstrip().startswith("|"))
    ]


def functions(path: str, text: str) -> list[tuple[str, int, int]]:
    """(name, first line, lines) of each function of a .py, .pyx, .cpp or .hpp file."""
    if path.endswith(".py"):
        return _python_functions(text)
    return _cython_functions(text) if path.endswith((".pyx", ".pxd")) else _cpp_functions(text)


def long_functions(path: str, text: str) -> list[str]:
    """Functions over `FUNCTION_LINES_MAX`."""
    return [
        f"{path}:{line}: {name} has {lines} lines, at most {FUNCTION_LINES_MAX}"
        for name, line, lines in functions(path, text)
        if lines > FUNCTION_LINES_MAX
    ]


def large_medians(file_lines: Sequence[int], function_lines: Sequence[int]) -> list[str]:
    """The two medians over their limits."""
    found = (
        ("file", median(file_lines), FILE_LINES_MEDIAN_MAX),
        ("function", median(function_lines), FUNCTION_LINES_MEDIAN_MAX),
    )
    return [
        f"median {what}: {value} lines, at most {top}" for what, value, top in found if value > top
    ]


def banned_calls(path: str, text: str) -> list[str]:
    """Calls of `BANNED_CALLS` outside their allowed files, and generators without a seed."""
    tree = ast.parse(text)
    known = _imported(tree)
    broken: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func, known)
        broken += [
            f"{path}:{node.lineno}: {name}: {instead}"
            for pattern, instead, allowed in BANNED_CALLS
            if re.fullmatch(pattern, name) and not path.startswith(allowed)
        ]
        if name in NEEDS_SEED and not node.args and not node.keywords:
            broken.append(f"{path}:{node.lineno}: {name}() has no seed")
    return broken


def sleep_polling(path: str, text: str) -> list[str]:
    """Loops that sleep until something is so: wait on an event, a future or a deadline.

    A sleep in a loop is polling if it is of literal length (0 only yields) or if the loop awaits
    nothing else; a period, a pause that a refusal named or a delay after an event are not.
    """
    tree = ast.parse(text)
    known = _imported(tree)
    broken: list[str] = []
    for loop in ast.walk(tree):
        if not isinstance(loop, ast.While | ast.For | ast.AsyncFor):
            continue
        awaited = [node.value for node in ast.walk(loop) if isinstance(node, ast.Await)]
        calls = [node for node in awaited if isinstance(node, ast.Call)]
        sleeps = [call for call in calls if _dotted(call.func, known) == "asyncio.sleep"]
        literal = [c for c in sleeps if isinstance(c.args[0], ast.Constant) and c.args[0].value]
        yields = [c for c in sleeps if isinstance(c.args[0], ast.Constant) and not c.args[0].value]
        alone = sleeps if len(awaited) == len(sleeps) and not yields else []
        broken += [f"{path}:{call.lineno}: asyncio.sleep in a loop" for call in literal or alone]
    return broken


def native_imports(path: str, text: str) -> list[str]:
    """Imports of predawn.csrc outside `NATIVE_IMPORTERS`."""
    if path.startswith(NATIVE_IMPORTERS):
        return []
    broken: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        package = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        names = [f"{package}{name.name}" for name in node.names]
        native = [name for name in names if f"{name}.".startswith("predawn.csrc.")]
        broken += [f"{path}:{node.lineno}: imports {name}" for name in native]
    return broken


def left_over_marks(path: str, text: str) -> list[str]:
    """Marks of unfinished work."""
    return [f"{path}:{line}: {word}" for line, word in _matches(_MARKS, text)]


def machine_paths(path: str, text: str) -> list[str]:
    """Paths and hosts of one machine."""
    return [f"{path}:{line}: {word}" for line, word in _matches(_PATHS, text)]


def banned_names(path: str, text: str) -> list[str]:
    """Files and classes whose name says nothing (`BANNED_WORDS`)."""
    file_words = set(PurePosixPath(path).stem.lower().split("_"))
    broken = [f"{path}: file name has {word!r}" for word in sorted(file_words & BANNED_WORDS)]
    if path.endswith(".py"):
        classes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ClassDef)]
        broken += [
            f"{path}:{node.lineno}: class {node.name}"
            for node in classes
            if BANNED_WORDS & {word.lower() for word in re.findall(r"[A-Z][a-z]*", node.name)}
        ]
    return broken


def unnamed_skips(path: str, text: str) -> list[str]:
    """Skips whose reason is not in `SKIP_REASONS`, and every xfail."""
    broken: list[str] = []
    for node in ast.walk(ast.parse(text)):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Attribute) and node.attr == "xfail":
            broken.append(f"{path}:{node.lineno}: xfail")
        if isinstance(node, ast.Call) and re.search(
            r"\b(skip|skipif|importorskip|skipTest)$", name
        ):
            reason = _reason(node)
            if not reason.startswith(SKIP_REASONS):
                broken.append(f"{path}:{node.lineno}: {name} without a named reason: {reason!r}")
    return broken


def undocumented(path: str, text: str) -> list[str]:
    """A module without docstring; in server/ also public functions and classes.

    A pydantic section is documented by its fields' descriptions.
    """
    tree = ast.parse(text)
    broken = [] if ast.get_docstring(tree) else [f"{path}: no docstring"]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    if path.startswith("server/"):
        broken += [
            f"{path}:{node.lineno}: {node.name} has no docstring"
            for node in tree.body
            if isinstance(node, kinds)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
            and not _describes_fields(node)
        ]
    return broken


def untested(sources: Sequence[str], tests: Sequence[str], exempt: Sequence[str]) -> list[str]:
    """Source files a/b/c.py without tests/a/b/test_c.py (or test_c_*.py, c_test.cpp)."""
    return [
        f"{path}: no test named after it in tests/{PurePosixPath(path).parent}/"
        for path in sources
        if path not in exempt and not any(_mirrors(path, test) for test in tests)
    ]


def decision_gaps(names: Sequence[str]) -> list[str]:
    """docs/decisions/NNNN-name.md: consecutive numbers from 0001, words after it."""
    broken: list[str] = []
    for number, name in enumerate(sorted(names), 1):
        if not re.fullmatch(rf"{number:04d}-[a-z0-9]+(-[a-z0-9]+)*\.md", name):
            broken.append(f"docs/decisions/{name}: expected {number:04d}-words-of-it.md")
    return broken


def unsafe_shell(path: str, text: str) -> list[str]:
    """Scripts that go on after an error."""
    return [] if "\nset -euo pipefail\n" in text else [f"{path}: no `set -euo pipefail`"]


def _python_functions(text: str) -> list[tuple[str, int, int]]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, kinds)
    ]


def _cython_functions(text: str) -> list[tuple[str, int, int]]:
    """By indentation: from a line that opens a def, cdef or cpdef to the last one inside it."""
    found: list[tuple[str, int, int]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        start = re.match(r"(\s*)(?:def|cdef|cpdef)\b[^=]*?(\w+)\(", line)
        if start is None:
            continue
        last = number
        for later, other in enumerate(lines[number:], number + 1):
            inside = len(other) - len(other.lstrip()) > len(start[1]) or other.lstrip()[:1] == ")"
            if other.strip() and not inside:
                break
            last = later if other.strip() else last
        found.append((start[2], number, last - number + 1))
    return found


def _cpp_functions(text: str) -> list[tuple[str, int, int]]:
    """By braces: an opening brace after a parameter list, outside any other function."""
    code = re.sub(r'//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', "", text)
    code = re.sub(r"^#.*", "", code, flags=re.MULTILINE)
    code = re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), code, flags=re.DOTALL)
    found: list[tuple[str, int, int]] = []
    opened: list[tuple[str, int]] = []
    since = 0
    for at, char in enumerate(code):
        if char not in "{};":
            continue
        head = code[since:at]
        since = at + 1
        if char == "{":
            inside = any(name for name, _ in opened)
            first = code.count("\n", 0, at - len(head.lstrip())) + 1
            opened.append(("" if inside else _cpp_name(head), first))
        elif char == "}" and opened:
            name, first = opened.pop()
            if name:
                found.append((name, first, code.count("\n", 0, at) + 2 - first))
    return found


def _cpp_name(head: str) -> str:
    """The function that `head {` opens; "" where it opens something else."""
    before, paren, after = head.rpartition(")")
    if not paren or _CONTROL.match(head) or not _AFTER_PARAMETERS.fullmatch(after):
        return ""
    name = re.search(r"(operator\S+?|[~\w]+)\s*\(", before)
    return name[1] if name else ""


def _imported(tree: ast.Module) -> dict[str, str]:
    """Local name -> dotted name, for every import of the module."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots = {name.name.split(".")[0] for name in node.names if not name.asname}
            known |= {root: root for root in roots}
            known |= {name.asname: name.name for name in node.names if name.asname}
        elif isinstance(node, ast.ImportFrom):
            known |= {n.asname or n.name: f"{node.module}.{n.name}" for n in node.names}
    return known


def _dotted(node: ast.expr, known: dict[str, str]) -> str:
    """`np.random.rand` -> "numpy.random.rand"; "" for an attribute of what was not imported."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or (parts and node.id not in known):
        return ""
    return ".".join([known.get(node.id, node.id), *reversed(parts)])


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        found = pattern.search(line)
        if found:
            yield number, found[0]


def _reason(call: ast.Call) -> str:
    """The literal reason of a skip, the constant part of an f-string included."""
    nodes = [k.value for k in call.keywords if k.arg == "reason"] or call.args[-1:]
    if nodes and isinstance(nodes[0], ast.JoinedStr):
        nodes = nodes[0].values
    first = nodes[0] if nodes else None
    return str(first.value) if isinstance(first, ast.Constant) else ""


def _describes_fields(node: ast.stmt) -> bool:
    fields = [ast.unparse(n) for n in getattr(node, "body", []) if isinstance(n, ast.AnnAssign)]
    return bool(fields) and all("description=" in field for field in fields)


def _mirrors(path: str, test: str) -> bool:
    source, found = PurePosixPath(path), PurePosixPath(test)
    if found.parent != PurePosixPath("tests") / source.parent:
        return False
    stem = source.stem.lstrip("_")
    return re.fullmatch(rf"test_{stem}(_\w+)?|{stem}(_\w+)?_test", found.stem) is not None

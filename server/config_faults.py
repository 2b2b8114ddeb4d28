"""What is wrong with settings, in words: path, value, reason, where it came from.

Invariant: a fault never shows a traceback or a name that is only the validator's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from predawn.server.config_schema import KeyPath, Leaf, Table, children, find, nearest_path
from predawn.server.config_text import toml_text
from predawn.server.errors import nearest

ENV_PREFIX = "PREDAWN_"
_PROSE = (
    ("Input should", "should"),
    ("String should", "should"),
    ("List should", "should"),
    ("Value error, ", ""),
    ("Field required", "is required"),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, where it goes and where it came from ("predawn.toml", "--port", ...)."""

    path: KeyPath
    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the message."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def misplaced(setting: Setting) -> list[Fault]:
    """Whether the path is none that can be set, or holds a value where a table belongs."""
    path, node = ".".join(setting.path), find(setting.path)
    if node is None:
        hint = nearest_path(setting.path)
        if hint and setting.source.upper().startswith(ENV_PREFIX):
            hint = ENV_PREFIX + hint.replace(".", "__").upper()
        meant = f"; did you mean {hint}?" if hint else f"; {_known(setting.path)}"
        return [Fault(path, f"unknown key (from {setting.source}){meant}")]
    if not isinstance(node, Leaf) and not isinstance(setting.value, dict):
        return [Fault(path, f"is a table, not a value (from {setting.source})")]
    return []


def _known(path: KeyPath) -> str:
    """What stands where the unknown path goes wrong."""
    depth = next(i for i in range(len(path)) if find(path[: i + 1]) is None)
    node = find(path[:depth])
    if isinstance(node, Table):
        near = nearest(path[depth], children(node))
        known = [near] if near else list(children(node))
        return f"known in {'.'.join(path[:depth]) or 'the file'}: {', '.join(known)}"
    return f"{'.'.join(path[:depth])} is a value, not a table"


def wrong_values(
    error: ValidationError, tree: dict[str, Any], settings: Sequence[Setting]
) -> list[Fault]:
    """pydantic's errors on `tree`, one per path: a union's branches are joined by "or"."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for each in error.errors(include_url=False, include_context=False):
        path, shown = _place(each["loc"], tree)
        reason = each["msg"]
        for formal, plain in _PROSE:
            reason = reason.replace(formal, plain)
        if not path:  # a rule between sections: it says itself whose fault it is
            path, _, reason = reason.partition(": ")
        reasons.setdefault((path, shown), []).append(reason)
    faults: list[Fault] = []
    for (path, shown), parts in reasons.items():
        reason = shown + " or ".join(dict.fromkeys(parts))
        faults.append(Fault(path, reason + _origin(path, settings)))
    return faults


def _origin(path: str, settings: Sequence[Setting]) -> str:
    """The last source that set the path, something below it, or (a missing key) beside it."""
    plain = path.split("[")[0]
    for start in (plain, plain.rpartition(".")[0]):
        for setting in reversed(settings):
            if start and f"{'.'.join(setting.path)}.".startswith(f"{start}."):
                return f" (from {setting.source})"
    return ""


def _place(loc: tuple[int | str, ...], tree: dict[str, Any]) -> tuple[str, str]:
    """The dotted path of an error and the value there as text. pydantic's own words (branches of a
    union, "[key]") name nothing in the tree, and end the path."""
    path = ""
    value: Any = tree
    for part in loc:
        if isinstance(value, dict) and part != "[key]":
            path += f".{part}" if path else str(part)
            if part not in value:
                return path, ""
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path, value = f"{path}[{part}]", value[part]
    return path, "" if isinstance(value, dict) else f"{toml_text(value)} "

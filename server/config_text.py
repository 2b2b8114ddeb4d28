"""Values and whole configurations as TOML that `config_load` reads back as the same.

Durations and sizes come out in the largest unit that states them exactly: 300000 -> "5m".
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from predawn.server.config import BYTES, MS, Config
from predawn.server.config_schema import (
    ROOT,
    Free,
    KeyPath,
    Leaf,
    Named,
    Node,
    Table,
    Unit,
    children,
)

_BINARY = {name: factor for name, factor in BYTES.items() if factor.bit_count() == 1}


def toml_text(value: object, unit: Unit = "other") -> str:
    """One value of a schema (or of a TOML file) as TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() if unit in ("duration", "size"):
            return _in_units(value, MS if unit == "duration" else _BINARY)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(map(toml_text, value))}]"
        case dict():
            pairs = ", ".join(f"{toml_key(key)} = {toml_text(each)}" for key, each in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            return repr(value)


def toml_key(name: str) -> str:
    """A key, quoted if it has to be."""
    bare = name.isascii() and name.replace("-", "_").replace("_", "a").isalnum()
    return name if bare else toml_text(name)


def effective(config: Config, sources: Mapping[str, str]) -> str:
    """The whole configuration; what is not a default says where it came from."""
    return "\n".join(_section(ROOT, config, (), sources)).strip() + "\n"


def _section(
    node: Table, section: BaseModel, path: KeyPath, sources: Mapping[str, str]
) -> Iterator[str]:
    below = children(node)
    for name, child in below.items():
        if isinstance(child, Leaf | Free):
            yield _line(child, getattr(section, name), (*path, name), sources)
    for name, child in below.items():
        if isinstance(child, Table | Named):
            yield from _tables(child, getattr(section, name), (*path, name), sources)


def _tables(
    node: Table | Named, value: Any, path: KeyPath, sources: Mapping[str, str]
) -> Iterator[str]:
    if isinstance(node, Named):
        for name, section in value.items():
            yield from _tables(Table(node.section), section, (*path, name), sources)
    else:
        yield from ("", f"[{'.'.join(map(toml_key, path))}]")
        yield from _section(node, value, path, sources)


def _line(node: Node, value: object, path: KeyPath, sources: Mapping[str, str]) -> str:
    dotted = ".".join(path)
    said = dict.fromkeys(
        source for key, source in sources.items() if f"{key}.".startswith(f"{dotted}.")
    )
    text = toml_text(value, node.unit if isinstance(node, Leaf) else "other")
    origin = f"  # from {', '.join(said)}" if said else ""
    return f"{path[-1]} = {text}{origin}"


def _in_units(value: int, units: Mapping[str, int]) -> str:
    fitting = {name: factor for name, factor in units.items() if value % factor == 0}
    name = max(fitting, key=fitting.__getitem__) if value else min(units, key=units.__getitem__)
    return f'"{value // units[name]}{name}"'

"""Writes the sample configuration: every setting, commented out, with its default and its meaning.

A line that starts with "#" and no space is a setting: removing those "#" gives a file that loads
(and means the defaults, but for the example's models and ranker, one of each).
"""

import textwrap
from collections.abc import Iterator
from typing import Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from predawn.server.config_schema import ROOT, Free, KeyPath, Leaf, Named, Node, Table, children
from predawn.server.config_text import toml_text

_WIDTH = 100
_HEAD = """\
predawn.toml: every setting with its default. Take the "#" off a line to change the setting.

predawn serve --config predawn.toml     serves with it
predawn check predawn.toml --print      says what is in force and where it came from

A flag (--set http.port=80) goes before an environment variable (PREDAWN_HTTP__PORT=80), that
before this file, and this file before the default.
Durations: "250ms", "30s", "5m", "2h", "1d", or milliseconds. Sizes: "64KiB", "2GiB", or bytes.
Paths are relative to this file."""
_EXAMPLE: dict[KeyPath, tuple[str, dict[str, object]]] = {
    ("models",): ("sum", {"snapshot": "snapshots"}),
    ("pairs",): ("fm", {"snapshot": "snapshots"}),
    ("rankers",): ("ctr", {"snapshot": "snapshots", "user_models": ["sum"]}),
}
"""Names of the example's sections, and values where the schema has no useful default."""


def sample() -> str:
    """The text of examples/predawn.toml."""
    head = "\n".join(f"# {line}".rstrip() for line in _HEAD.splitlines())
    return f"{head}\n\n" + "\n".join(_table(ROOT, (), {})) + "\n"


def _table(node: Table, path: KeyPath, values: dict[str, object]) -> Iterator[str]:
    below = children(node)
    # TOML: the keys of a table stand in front of the tables inside it.
    for name, child in below.items():
        if isinstance(child, Leaf | Free):
            yield from _setting(node, name, child, values)
    for name, child in below.items():
        if isinstance(child, Table):
            # A table below an example's is as much an example.
            off = "#" if path else ""
            yield from ("", *_prose(child.section.__doc__ or ""))
            yield f"{off}[{'.'.join((*path, name))}]"
            yield from _table(child, (*path, name), {})
        elif isinstance(child, Named):
            example, given = _EXAMPLE[(*path, name)]
            yield from ("", *_prose(child.section.__doc__ or ""))
            yield f"#[{'.'.join((*path, name, example))}]"
            yield from _table(Table(child.section), (*path, name, example), given)


def _setting(node: Table, name: str, child: Node, values: dict[str, object]) -> Iterator[str]:
    field = node.section.model_fields[name]
    default: object = {} if field.default is PydanticUndefined else field.default
    text = toml_text(values.get(name, default), child.unit if isinstance(child, Leaf) else "other")
    yield from _prose(" ".join([field.description or "", *_choices(field.annotation)]))
    yield f"#{name} = {text}"


def _choices(annotation: object) -> Iterator[str]:
    """The words that a setting takes, where it takes only those."""
    if get_origin(annotation) is Literal:
        yield f"One of {', '.join(map(toml_text, get_args(annotation)))}."


def _prose(text: str) -> Iterator[str]:
    for line in textwrap.wrap(" ".join(text.split()), _WIDTH - 2):
        yield f"# {line}"

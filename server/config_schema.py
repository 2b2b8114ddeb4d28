"""The schema of `config` as a tree: what may stand at a dotted path, and in which unit.

Table    a section with known keys           http
Named    sections under names of the user's  models
Free     values under any key                models.sum.options
Leaf     a value                             http.port
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from predawn.server.config import Config, IsPath, Section, duration_ms, size_bytes

Unit: TypeAlias = Literal["duration", "size", "path", "text", "other"]
KeyPath: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value. field None: under a Free table."""

    field: FieldInfo | None
    unit: Unit


@dataclass(frozen=True, slots=True)
class Table:
    """A section; children in the order of the schema."""

    section: type[Section]


@dataclass(frozen=True, slots=True)
class Named:
    """Sections of one kind under names that the user chose."""

    section: type[Section]


@dataclass(frozen=True, slots=True)
class Free:
    """Plain values under names that the user chose."""


Node: TypeAlias = Leaf | Table | Named | Free
ROOT = Table(Config)


def node_of(field: FieldInfo) -> Node:
    """What a field of a section holds."""
    annotation: object = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Table(annotation)
    if get_origin(annotation) is dict:
        value = get_args(annotation)[1]
        named = isinstance(value, type) and issubclass(value, Section)
        return Named(value) if named else Free()
    return Leaf(field, _unit(field, annotation))


def _unit(field: FieldInfo, annotation: object) -> Unit:
    readers = [each.func for each in field.metadata if isinstance(each, BeforeValidator)]
    if duration_ms in readers:
        return "duration"
    if size_bytes in readers:
        return "size"
    if any(isinstance(each, IsPath) for each in field.metadata):
        return "path"
    words = get_origin(annotation) is Literal and all(
        isinstance(word, str) for word in get_args(annotation)
    )
    return "text" if annotation is str or words else "other"


def children(node: Node) -> dict[str, Node]:
    """Known keys of a table; {} where any name goes or nothing does."""
    if not isinstance(node, Table):
        return {}
    return {name: node_of(field) for name, field in node.section.model_fields.items()}


def find(path: KeyPath, node: Node = ROOT) -> Node | None:
    """The node at a path; None: no such key."""
    for name in path:
        match node:
            case Table():
                below = children(node).get(name)
                if below is None:
                    return None
                node = below
            case Named():
                node = Table(node.section)
            case Free():
                node = Leaf(None, "other")
            case Leaf():
                return None
    return node


def spelled(path: KeyPath, names: Iterable[KeyPath]) -> KeyPath:
    """`path` as the schema and, below it, `names` spell it: case and "-" against "_" do not matter
    (an environment variable has neither)."""
    found: KeyPath = ()
    for part in path:
        node = find(found)
        known = list(children(node)) if node else []
        known += [name[len(found)] for name in names if len(name) > len(found)
                  and name[: len(found)] == found]  # fmt: skip
        found += (next((name for name in known if _folded(name) == _folded(part)), part),)
    return found


def nearest_path(path: KeyPath) -> str | None:
    """The known dotted path most like an unknown one."""
    beside = find(path[:-1])
    known = [".".join((*path[:-1], name)) for name in (children(beside) if beside else ())]
    known += [".".join(leaf) for leaf in leaves()]
    found = difflib.get_close_matches(".".join(path), known, 1, 0.7)
    return found[0] if found else None


def leaves(node: Node = ROOT, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Paths of all values; the user's names are written NAME."""
    match node:
        case Leaf() | Free():
            yield path
        case Named():
            yield from leaves(Table(node.section), (*path, "NAME"))
        case Table():
            for name, below in children(node).items():
                yield from leaves(below, (*path, name))


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")

"""Reads the configuration: command line over environment over file over default.

Every wrong setting of every source is found at once and comes out as one `ConfigError`, a line
each: dotted path, value, reason, source. Nothing is guessed and nothing is ignored: a key that the
schema does not know is an error.

Environment: PREDAWN_HTTP__PORT is http.port, PREDAWN_MODELS__SUM__WAIT is models.sum.wait.
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from predawn.server.config import Config
from predawn.server.config_faults import ENV_PREFIX, Setting, misplaced, wrong_values
from predawn.server.config_schema import (
    ROOT,
    Free,
    KeyPath,
    Leaf,
    Named,
    Node,
    children,
    find,
    spelled,
)
from predawn.server.errors import ConfigError

_SECTIONS = tuple(f"{section}_" for section in children(ROOT))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration; sources: dotted path -> source, of all that is not a default."""

    config: Config
    sources: dict[str, str]


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[Setting] = (),
) -> Loaded:
    """Merges and validates. environ None: the process's. ConfigError lists all that is wrong."""
    settings = list(_from_file(file)) if file else []
    settings += _from_environment(os.environ if environ is None else environ, settings)
    settings += overrides
    faults = [fault for setting in settings for fault in misplaced(setting)]
    placed = [setting for setting in settings if not misplaced(setting)]
    tree: dict[str, Any] = {}
    for setting in placed:
        _put(tree, setting)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        faults += wrong_values(error, tree, placed)
    else:
        if not faults:
            return Loaded(config, {".".join(each.path): each.source for each in placed})
    rest = "".join(f"\n{fault}" for fault in faults[1:])
    raise ConfigError(faults[0].path, faults[0].reason + rest)


def assignment(text: str, source: str = "--set") -> Setting:
    """ "http.port=8080" -> a setting; ConfigError if it has no "=" or no key."""
    key, equals, raw = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(source, f'{text!r} is not of the form section.key=value ("http.port=80")')
    return Setting(path, parsed(path, raw.strip()), source)


def parsed(path: KeyPath, raw: str) -> object:
    """The text of an environment variable or flag as a value: TOML where that is what the field
    takes (8080, true, ["a", "b"]), else the text itself ("5m", a host, a path)."""
    node = find(path)
    if isinstance(node, Leaf) and node.unit in ("text", "path") and raw[:1] not in ("'", '"'):
        return raw
    try:
        document = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return raw
    return document["value"] if len(document) == 1 else raw


def _from_file(file: Path) -> Iterator[Setting]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), f"is not UTF-8: {error.reason} at {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(file), f"is not TOML: {error}") from error
    for path, value in _flat(document, ROOT, ()):
        yield Setting(path, _beside(file, path, value), str(file))


def _flat(value: object, node: Node | None, path: KeyPath) -> Iterator[tuple[KeyPath, object]]:
    """A document as (path, value) pairs. An empty table under a name of the user's counts."""
    if not isinstance(value, dict) or isinstance(node, Leaf) or node is None:
        yield path, value
        return
    if not value and path and isinstance(find(path[:-1]), Named):
        yield path, {}
    for key, below in value.items():
        yield from _flat(below, find((*path, key)), (*path, key))


def _beside(file: Path, path: KeyPath, value: object) -> object:
    node = find(path)
    if isinstance(node, Leaf) and node.unit == "path" and isinstance(value, str) and value:
        return str(file.parent / value)
    return value


def _from_environment(environ: Mapping[str, str], below: Iterable[Setting]) -> Iterator[Setting]:
    names = [setting.path for setting in below]
    for variable, raw in sorted(environ.items()):
        if not variable.upper().startswith(ENV_PREFIX):
            continue
        name = variable[len(ENV_PREFIX) :].lower()
        path = spelled(tuple(name.split("__")), names)
        # Other variables of that prefix are not settings, but PREDAWN_HTTP_PORT (one underscore
        # too few) must not be without effect in silence.
        if len(path) > 1 or isinstance(find(path), Leaf) or name.startswith(_SECTIONS):
            yield Setting(path, parsed(path, raw), variable)


def _put(tree: dict[str, Any], setting: Setting) -> None:
    for name in setting.path[:-1]:
        tree = tree.setdefault(name, {})
    if isinstance(setting.value, dict) and not isinstance(find(setting.path), Free | Leaf):
        tree.setdefault(setting.path[-1], setting.value)
    else:
        tree[setting.path[-1]] = setting.value

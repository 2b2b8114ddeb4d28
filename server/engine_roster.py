"""Which version of each model is live, staged and previous.

Invariant: what is live is one reference that a batch reads once, when it begins: a batch sees one
version from its first row to its last. A swap or rollback of several models replaces all of them in
one assignment, or none. Any thread may read; changes take a lock.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from predawn.server.engine import ModelVersions
from predawn.server.errors import ConfigError
from predawn.server.models.contract import PairModel, RankerModel, UserModel
from predawn.server.request import F32

Change: TypeAlias = Literal["swap", "rollback", "discard"]


@dataclass(frozen=True, slots=True)
class Held:
    """A model of one version. matrix: float32 [dim, dim] that aligns it, inside `model` already."""

    model: UserModel | PairModel | RankerModel
    version: int
    matrix: F32 | None = None


@runtime_checkable
class _Keeps(Protocol):
    def kept(self) -> dict[str, int]: ...


@dataclass(frozen=True, slots=True)
class _Slot:
    live: Held
    staged: Held | None = None
    previous: Held | None = None


class Roster:
    """Empty at first; `hold` gives a name its first live version."""

    def __init__(self) -> None:
        self._slots: Mapping[str, _Slot] = {}
        self._changing = threading.Lock()
        self._retired: list[_Slot] = []

    def names(self) -> tuple[str, ...]:
        """All that have a live version."""
        return tuple(self._slots)

    def live(self, name: str) -> Held:
        """What serves now. KeyError for a name that is not held."""
        return self._slots[name].live

    def hold(self, name: str, live: Held) -> None:
        """A first live version."""
        self._change({name: _Slot(live)})

    def stage(self, name: str, held: Held) -> None:
        """A version that may be swapped in; what was staged before goes."""
        with self._changing:
            self._replace({name: replace(self._slots[name], staged=held)})

    def keep(self, name: str, held: Held) -> None:
        """A previous version, to roll back to, unless there is one by now."""
        with self._changing:
            slot = self._slots[name]
            self._replace({name: replace(slot, previous=slot.previous or held)})

    def discard(self, names: Iterable[str]) -> None:
        """Forgets the staged versions of `names`, where there are any."""
        with self._changing:
            held = {name: self._slots[name] for name in names if name in self._slots}
            self._replace({name: replace(slot, staged=None) for name, slot in held.items()})

    def swap(self, names: Iterable[str]) -> dict[str, int]:
        """staged -> live -> previous. ConfigError when one of `names` has nothing staged."""
        return self._turn(names, "staged", lambda slot, new: _Slot(new, previous=slot.live))

    def rollback(self, names: Iterable[str]) -> dict[str, int]:
        """previous -> live -> staged. ConfigError when one of `names` has no previous version."""
        return self._turn(names, "previous", lambda slot, new: _Slot(new, staged=slot.live))

    def change(self, change: Change, names: Iterable[str]) -> dict[str, int]:
        """`swap`, `rollback` or `discard`, by name; the live versions of what turned."""
        if change == "discard":
            self.discard(names)
            return {}
        return self.swap(names) if change == "swap" else self.rollback(names)

    def versions(self) -> dict[str, ModelVersions]:
        """By name."""
        return {
            name: ModelVersions(slot.live.version, _version(slot.staged), _version(slot.previous))
            for name, slot in self._slots.items()
        }

    def kept(self) -> dict[str, dict[str, int]]:
        """What the live pair models say of the histories that they keep, by name."""
        live = {name: slot.live.model for name, slot in self._slots.items()}
        return {name: _kept(model) for name, model in live.items() if isinstance(model, _Keeps)}

    def forget(self) -> None:
        """Frees what is held no more. Takes time for large models: not on the path of a batch."""
        self._retired = []

    def _turn(
        self, names: Iterable[str], wanted: str, turned: Callable[[_Slot, Held], _Slot]
    ) -> dict[str, int]:
        with self._changing:
            changed: dict[str, _Slot] = {}
            for name in names:
                slot = self._slots.get(name)
                new = getattr(slot, wanted, None)
                if slot is None or new is None:
                    raise ConfigError(name, f"has no {wanted} version")
                changed[name] = turned(slot, new)
            self._replace(changed)
        return {name: slot.live.version for name, slot in changed.items()}

    def _change(self, changed: Mapping[str, _Slot]) -> None:
        with self._changing:
            self._replace(changed)

    def _replace(self, changed: Mapping[str, _Slot]) -> None:
        before = [self._slots[name] for name in changed if name in self._slots]
        self._retired = [*self._retired, *before]
        self._slots = {**self._slots, **changed}


def _kept(model: _Keeps) -> dict[str, int]:
    """Nothing where a model of somebody's own means something else by it."""
    try:
        return {str(name): int(count) for name, count in model.kept().items()}
    except Exception:
        return {}


def _version(held: Held | None) -> int | None:
    return None if held is None else held.version

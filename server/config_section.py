"""What the sections of the configuration are made of: units, names, and their common rules.

Durations are "250ms", "5m", "2h" (or a number of milliseconds), sizes "64MiB" (or a number of
bytes).
"""

import re
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

_DURATION = re.compile(r"(\d{1,16}(?:\.\d{1,9})?)\s*(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,16}(?:\.\d{1,9})?)\s*(B|KiB|MiB|GiB|kB|MB|GB)", re.ASCII)
MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_LARGEST = 2**53  # exact also as a float


def _scaled(value: object, pattern: re.Pattern[str], units: dict[str, int], example: str) -> object:
    if not isinstance(value, str):
        return value
    found = pattern.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"is not {example}")
    return round(float(found[1]) * units[found[2]])


def duration_ms(value: object) -> object:
    """ "250ms", "5m" -> milliseconds; numbers pass through."""
    return _scaled(value, _DURATION, MS, 'a duration such as "250ms", "30s", "5m", "2h", "1d"')


def size_bytes(value: object) -> object:
    """ "64MiB" -> bytes; numbers pass through."""
    return _scaled(value, _SIZE, BYTES, 'a size such as "64KiB", "512MiB", "2GiB"')


T = TypeVar("T")


def distinct(values: list[T]) -> list[T]:
    """ValueError names the first that is there twice."""
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise ValueError(f"names {twice[0]!r} twice")
    return values


class IsPath:
    """Marks a field as a place in the file system: in a file, relative to that file."""


DurationMs = Annotated[int, BeforeValidator(duration_ms), Field(ge=0, le=_LARGEST)]
SizeBytes = Annotated[int, BeforeValidator(size_bytes), Field(ge=0, le=_LARGEST)]
Path = Annotated[str, IsPath()]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Names = Annotated[list[Name], AfterValidator(distinct)]
Factory = Annotated[str, Field(pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_][\w.]*)?$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Options = dict[str, str | int | float | bool]


class Section(BaseModel):
    """A table of the file. Unknown keys are errors; a loaded config does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any, info: ValidationInfo) -> Any:
        wanted: tuple[object, ...] = (cls.model_fields[info.field_name or ""].annotation,)
        if isinstance(value, bool) and (int in wanted or float in wanted):
            raise ValueError("should be a number")
        return value

"""Units of settings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from predawn.server.config import Config, UserModelConfig


def config(**sections: Any) -> Config:
    """A validated config."""
    return Config.model_validate(sections)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("250ms", 250), ("1.5s", 1500), (" 5 m ", 300_000), ("2h", 7_200_000), ("1d", 86_400_000),
     (7, 7), ("7", None), ("5 weeks", None), ("-1s", None), (-1, None), ("9" * 400 + "s", None),
     ("999999999999999d", None), (True, None), (1.5, None), ("\u0665m", None)],
)  # fmt: skip
def test_durations(text: object, ms: int | None) -> None:
    if ms is None:
        with pytest.raises(ValidationError):
            config(engine={"hang_after": text})
    else:
        assert config(engine={"hang_after": text}).engine.hang_after == ms


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 2**16), ("1.5MiB", 3 * 2**19), ("1GB", 10**9), ("12B", 12), (5, 5), ("1 KB", None)],
)
def test_sizes(text: object, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValidationError, match='a size such as "64KiB"'):
            config(http={"body_limit": text})
    else:
        assert config(http={"body_limit": text}).http.body_limit == size


@given(st.text())
def test_no_text_makes_a_duration_crash(text: str) -> None:
    try:
        UserModelConfig.model_validate({"factory": "a:b", "wait": text})
    except ValidationError as error:
        assert error.error_count() >= 1

"""What every engine checks of a model's rows."""

from typing import Any

import numpy as np
import pytest

from predawn.server.engine import checked_rows
from predawn.server.errors import InferenceError

RIGHT = np.zeros((2, 3), dtype=np.float32)


def test_checked_rows_passes_what_is_right() -> None:
    assert checked_rows("m", RIGHT, (2, 3)) is RIGHT


@pytest.mark.parametrize(
    ("rows", "came"),
    [
        (None, "NoneType"),
        (RIGHT.tolist(), "list"),
        (RIGHT[:1], r"float32 \[1, 3\], expected float32 \[2, 3\]"),
        (RIGHT.astype(np.float16), r"float16 \[2, 3\]"),
    ],
)
def test_checked_rows_says_what_came_instead(rows: Any, came: str) -> None:
    with pytest.raises(InferenceError, match=f"model 'm': returned {came}"):
        checked_rows("m", rows, (2, 3))

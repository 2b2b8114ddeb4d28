"""`[served_log]`: off unless a path is set; what makes no sense is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from predawn.server.config import Config, ServedLogConfig


def test_it_is_off_by_default() -> None:
    assert Config.model_validate({}).served_log.path == ""
    assert ServedLogConfig.model_validate({}).share < 1


@pytest.mark.parametrize(
    "wrong",
    [{"share": 1.01}, {"share": -0.1}, {"values": "bf16"}, {"rows_per_file": 0}, {"rows": 1},
     {"size_limit": "1KiB"}, {"buffer_limit": 0}, {"flush_delay": 0}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServedLogConfig.model_validate(wrong)

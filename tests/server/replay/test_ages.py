import pytest

from predawn.server.replay.ages import age_text


@pytest.mark.parametrize(
    ("age_ms", "shown"),
    [(0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (90_000, "1.5 min"), (5_400_000, "1.5 h")],
)
def test_ages_have_the_unit_that_suits_them(age_ms: float, shown: str) -> None:
    assert age_text(age_ms) == shown

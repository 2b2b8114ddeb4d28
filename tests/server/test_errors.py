"""Errors name field and reason, carry their status, and are one tree."""

import pytest

from predawn.server import errors


def test_every_error_is_in_the_tree_and_in_its_drawing() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = [kind for kind in kinds if issubclass(kind, Exception)]
    assert all(issubclass(kind, errors.PredawnError) for kind in raised)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in raised)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest("items", "empty"), 400),
        (errors.UnknownName("ranker", "x", []), 404),
        (errors.Conflict("", "nothing is staged"), 409),
        (errors.BodyTooLarge("", "3 bytes, at most 2"), 413),
        (errors.LoadFailed("models.sum", "damaged"), 422),
        (errors.Overloaded("queue full", 0.5), 429),
        (errors.Unavailable("draining"), 503),
        (errors.DeadlineExceeded("late"), 504),
    ],
)
def test_status_of_an_error(error: errors.PredawnError, status: int) -> None:
    assert error.status == status  # type: ignore[attr-defined]


def test_unknown_name_suggests_the_nearest_or_lists_all() -> None:
    assert "did you mean 'click'?" in str(errors.UnknownName("ranker", "clik", ["click", "like"]))
    assert "known: click, like" in str(errors.UnknownName("ranker", "zzz", ["like", "click"]))
    assert "known: none" in str(errors.UnknownName("ranker", "zzz", []))


def test_message_starts_with_the_field_unless_it_is_the_body() -> None:
    assert str(errors.BadRequest("items[3]", "not an id")) == "items[3]: not an id"
    assert str(errors.BadRequest("", "not JSON")) == "not JSON"
    assert str(errors.ConfigError("http.port", "too large")) == "http.port: too large"
    assert str(errors.InferenceError("sum", "NaN in row 3")) == "model 'sum': NaN in row 3"

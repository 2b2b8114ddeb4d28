from pathlib import Path

import pytest
import typer

from predawn.server.cli.replay_pairs import pair_options
from predawn.server.replay import PairOptions


def test_off_is_no_foundation_model_and_anything_else_is_the_truth_or_a_directory() -> None:
    assert pair_options() is None
    assert pair_options(fm="truth") == PairOptions()
    assert pair_options(fm="a/b") == PairOptions(fm=Path("a/b"))


def test_lists_are_parted_by_commas() -> None:
    found = pair_options(fm="truth", fills=" neighbour,user_mean ", budgets="0.5, 1,")
    assert found is not None
    assert (found.fills, found.budgets) == (("neighbour", "user_mean"), (0.5, 1.0))
    assert pair_options(fm="truth", fills="") == PairOptions(fills=())


def test_what_is_no_number_is_said() -> None:
    with pytest.raises(typer.BadParameter, match="is no list of numbers"):
        pair_options(fm="truth", budgets="half")

from pair_cases import asked, lists
from replay_cases import day

from predawn.server.replay.pair_asks import asks_of, last_shown, own_history, position

SHOWN = [(0, 7, [5, 9]), (0, 8, [9]), (3, 7, [1]), (4, 7, [9, 1])]


def test_rows_keep_their_place_and_pairs_have_a_number_each() -> None:
    asks = asked(SHOWN, first=1)
    assert asks.item.tolist() == [1, 2, 2, 0, 2, 0]
    assert asks.request.tolist() == [0, 0, 1, 2, 3, 3]
    assert asks.row_t_ms.tolist() == [0, 0, 0, 3, 4, 4]
    assert asks.pair.tolist() == [1, 2, 5, 0, 2, 0]
    assert asks.asked == 4


def test_positions_count_the_own_requests() -> None:
    assert position(asked(SHOWN)).tolist() == [0, 0, 1, 2]


def test_last_shown_counts_own_lists_back() -> None:
    assert last_shown(asked(SHOWN)).tolist() == [-1, -1, -1, -1, 2, 1]


def test_own_history_is_of_the_counted_pairs() -> None:
    found = own_history(asks_of(lists(SHOWN), first=3))
    assert found == {"last list": 0.5, "last 3": 1.0, "last 10": 1.0, "any": 1.0}


def test_the_default_workload_repeats_as_published() -> None:
    found = own_history(asks_of(day(), first=len(day()) // 2))
    assert 0.18 < found["last list"] < found["last 3"] < found["last 10"] < found["any"] < 0.5

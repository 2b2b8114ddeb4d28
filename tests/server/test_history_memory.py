"""MemoryHistory: the same features as the record, for many users."""

import numpy as np

from predawn.server.history_memory import MemoryHistory
from predawn.server.history_record import Events


def events(*rows: tuple[int | str, int, int, int]) -> Events:
    """(user, item, t_ms, types) rows as columns."""
    return Events(
        users=[row[0] for row in rows],
        items=np.array([row[1] for row in rows], np.uint64),
        types=np.array([row[3] for row in rows], np.uint16),
        t_ms=np.array([row[2] for row in rows], np.int64),
    )


def test_appended_events_are_gathered_newest_first_per_user() -> None:
    history = MemoryHistory(["shown", "clicked"], ["age"], 3)
    assert history.append_now(events((1, 10, 100, 1), ("a", 20, 100, 1), (1, 11, 50, 2))) == 3
    history.push(1, 12, 200, 3)
    batch = history.gather([1, "a", 99, 1])
    assert batch.items.tolist() == [[12, 10, 11], [20, 0, 0], [0, 0, 0], [12, 10, 11]]
    assert batch.ages_ms.tolist()[0] == [0, 100, 150]
    assert batch.counts.tolist() == [[2, 2], [1, 0], [0, 0], [2, 2]]


def test_attributes_alone_make_a_user() -> None:
    history = MemoryHistory(["shown"], ["age"], 2)
    none = events()
    history.append_now(Events(none.users, none.items, none.types, none.t_ms, [("a", {"age": 3.0})]))
    assert list(history.users()) == ["a"] and history.count_users() == 1
    assert history.gather(["a", "b"]).attributes.tolist() == [[3.0], [0.0]]


def test_gathering_an_unknown_user_does_not_make_one() -> None:
    history = MemoryHistory(["shown"], [], 2)
    history.gather([1, 2])
    assert history.count_users() == 0

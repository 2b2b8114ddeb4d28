"""Plain data: words and numbers that replies, metrics and models rely on."""

from predawn.server.request import Lane, Source


def test_sources_keep_their_numbers() -> None:
    """They are columns of the ranker's input and bytes in the store: never renumber."""
    words = ["direct", "computed", "stale", "failover", "user_mean", "neighbour", "default"]
    words += ["recent"]
    assert [source.label for source in sorted(Source)] == words
    assert [int(source) for source in sorted(Source)] == list(range(8))


def test_lanes_are_in_strict_priority() -> None:
    assert sorted(Lane) == [Lane.RANK, Lane.WAIT, Lane.REFRESH, Lane.SPECULATE]

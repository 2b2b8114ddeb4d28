"""The sample is the newest vectors, as many as fit."""

import numpy as np

from predawn.server.user_sample import UserSample


def test_keeps_the_newest_and_counts_all() -> None:
    sample = UserSample(3)
    assert sample.user_dim == 0
    assert len(sample.rows()) == 0
    for value in range(5):
        sample.add(np.full(2, value, dtype=np.float32))
    assert sorted(sample.rows()[:, 0].tolist()) == [2, 3, 4]
    assert (sample.seen, sample.user_dim) == (5, 2)


def test_gives_copies_and_starts_anew_with_another_length() -> None:
    sample = UserSample(3)
    sample.add(np.ones(2, dtype=np.float32))
    sample.rows()[:] = 7
    assert sample.rows().tolist() == [[1, 1]]
    sample.forget()
    sample.add(np.ones(4, dtype=np.float32))
    assert (sample.seen, sample.user_dim) == (1, 4)

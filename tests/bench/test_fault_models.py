"""The models of the bench: exact, cheap, and hanging on demand."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from predawn.bench import fault_models
from predawn.server.request import PairBatch, RankBatch, UserBatch


def _users(*ids: int) -> UserBatch:
    n = len(ids)
    return UserBatch(
        users=np.array(ids, np.uint64),
        items=np.zeros((n, 4), np.uint64),
        types=np.zeros((n, 4), np.uint16),
        ages_ms=np.zeros((n, 4), np.int64),
        lengths=np.zeros(n, np.int32),
        counts=np.zeros((n, 2), np.float32),
        attributes=np.zeros((n, 0), np.float32),
        hour=np.zeros(n, np.float32),
    )


def test_embedding_depends_on_the_user_alone() -> None:
    model = fault_models.user_model(None, dim=8)
    both, one = model.embed(_users(5, 6)), model.embed(_users(6))
    assert both.shape == (2, 8) == (2, model.dim) and both.dtype == np.float32
    assert np.array_equal(both[1], one[0]) and not np.array_equal(both[0], both[1])


def test_model_hangs_while_its_flag_exists(tmp_path: Path) -> None:
    flag = tmp_path / "hang"
    flag.touch()
    model = fault_models.user_model(None, hang_flag=str(flag))
    done = threading.Event()

    def embed() -> None:
        model.embed(_users(1))
        done.set()

    thread = threading.Thread(target=embed, daemon=True)
    thread.start()
    assert not done.wait(0.1)
    flag.unlink()
    assert done.wait(10)
    thread.join()


def test_a_model_that_finds_its_flag_takes_the_process_with_it_once(tmp_path: Path) -> None:
    flag = tmp_path / "die"
    flag.touch()
    program = (
        "import sys; import numpy as np; from predawn.bench import fault_models;"
        "fault_models.user_model(None, die_flag=sys.argv[1])._die()"
    )
    ends = [subprocess.run([sys.executable, "-c", program, str(flag)]) for _ in range(2)]
    assert [end.returncode for end in ends] == [-signal.SIGKILL, 0]


def test_ranker_scores_every_candidate_by_its_user() -> None:
    batch = RankBatch(
        user=np.array([[0.0], [0.5]], np.float32),
        sources=np.zeros((2, 1), np.uint8),
        offsets=np.array([0, 2, 3], np.int64),
        item_hashes=np.array([10, 20, 10], np.uint64),
        item_features=np.zeros((3, 0), np.float32),
    )
    scores = fault_models.ranker(None).score(batch)
    assert scores.shape == (3, 1) and scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all() and scores[0] != scores[2]


PAIRS = PairBatch(_users(5, 6), np.array([0, 1, 3], np.int64), np.array([9, 9, 7], np.uint64))


def test_a_pair_depends_on_its_user_and_its_item_however_it_is_sliced() -> None:
    whole = fault_models.pair_model(None, dim=8).embed_pairs(PAIRS)
    assert np.array_equal(whole, fault_models.pair_model(None, 8, slice_pairs=1).embed_pairs(PAIRS))
    assert whole.shape == (3, 8) and len({row.tobytes() for row in whole}) == 3


def test_a_pair_model_is_in_the_trouble_that_its_file_names(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    model = fault_models.pair_model(None, slow_s=0.05, trouble=str(trouble))
    trouble.write_text("fail")
    with pytest.raises(RuntimeError, match="told to fail"):
        model.embed_pairs(PAIRS)
    trouble.write_text("slow")
    began_s = time.perf_counter()
    assert len(model.embed_pairs(PAIRS)) == 3 and time.perf_counter() - began_s >= 0.05
    trouble.write_text("hang")
    thread = threading.Thread(target=model.embed_pairs, args=[PAIRS], daemon=True)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    trouble.unlink()
    thread.join(10)
    assert not thread.is_alive()


def test_a_pair_model_that_is_to_die_takes_its_process_with_it_once(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    trouble.write_text("die")
    program = (
        "import sys; from predawn.bench import fault_models;"
        "fault_models.pair_model(None, trouble=sys.argv[1])._meet_trouble()"
    )
    ends = [subprocess.run([sys.executable, "-c", program, str(trouble)]) for _ in range(2)]
    assert [end.returncode for end in ends] == [-signal.SIGKILL, 0]

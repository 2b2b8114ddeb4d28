"""Children are awaited, stopped, killed and quoted."""

import subprocess
import sys
from pathlib import Path

import pytest

from predawn.bench.child import Child, ChildDied, free_port


def _echo(tmp_path: Path, kind: str = "protocol") -> Child:
    port = free_port()
    return Child(["-m", "predawn.bench.echo", kind, str(port), "64"], port, tmp_path / "log")


def test_ready_child_answers_and_stops(tmp_path: Path) -> None:
    with _echo(tmp_path) as child:
        assert child.wait_ready("/", 20) > 0
        status, body = child.request("POST", "/v1/rank", b"{}")
        assert (status, len(body)) == (200, 64)
        assert child.alive
    assert not child.alive


def test_a_child_that_dies_is_quoted(tmp_path: Path) -> None:
    child = _echo(tmp_path, "nonsense")
    with pytest.raises(ChildDied, match=r"ended with status 1:\necho: unknown kind 'nonsense'"):
        child.wait_ready("/", 20)


def test_a_child_that_never_answers_is_given_up(tmp_path: Path) -> None:
    arguments = ["-c", "import threading; threading.Event().wait()"]
    child = Child(arguments, free_port(), tmp_path / "log")
    try:
        with pytest.raises(ChildDied, match="not ready"):
            child.wait_ready("/", 0.2)
    finally:
        child.kill()
    assert not child.alive


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed takes its child along: the kernel closes the child's end too."""
    code = (
        "import sys, os; from pathlib import Path; from predawn.bench.child import Child\n"
        "wait = 'import threading; threading.Event().wait()'\n"
        "c = Child(['-c', wait], 1, Path(sys.argv[1]))\n"
        "print(c.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.wait(timeout=20)
    parent.stdout.close()
    for _ in range(100):
        if not _runs(pid):
            return
        subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    raise AssertionError(f"process {pid} outlived its parent")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

"""What `predawn bench torture` runs: workers that read, verify and write, and their supervisor.

Paths are those of the store and of the oracle beside it; `create` makes both.
"""

from collections.abc import Sequence

WORKERS: int  # at most

def create(
    store: str,
    oracle: str,
    *,
    capacity: int,
    keys: int,
    shared: int,
    workers: int,
    reads_per_put: int,
    read_keys: int,
    removes_in: int,
    floors_in: int,
    pause_us: int,
    expires: bool,
    crowd: int,
    twins: bool,
    seed: int,
) -> None:
    """A store, closed, and the history of its keys.

    shared: so many of the keys are written by every worker, the others by one each. reads_per_put:
    batches, of `read_keys` keys each. removes_in, floors_in: one batch of changes in so many
    removes a key, one round in so many raises the snapshot floor (0: none). pause_us: after each
    round. expires: half of what was written counts as too old. crowd: all keys lie in so many sets
    (0: anywhere); twins: with one fingerprint, too.
    """

def work(store: str, oracle: str, first: int, threads: int, seed: int) -> None:
    """Tortures until the supervisor says stop, as the workers `first` .. `first + threads - 1`."""

def die_with_parent() -> None:
    """This process is killed when its parent's thread ends."""

class Supervisor:
    """Looks at the store from an attachment of its own. Most calls need `attach`."""

    def __init__(self, store: str, oracle: str, seed: int) -> None: ...
    def attach(self) -> None: ...
    def close(self) -> None: ...
    def halt(self, is_halted: bool) -> None:
        """Whether workers are to end; no attachment needed."""
    def bury(self, number: int) -> None:
        """Notes that a worker has died; no attachment needed."""
    def found(self) -> int:
        """How many of the keys are there; each row is verified."""
    def stuck_sets(self) -> int:
        """Sets that the dead still hold, or that take no put; when all workers are dead."""
    def claimed_sets(self) -> int:
        """Sets in which a change is under way."""
    def check(self) -> list[str]:
        """As EmbeddingCache.check."""
    def put_beside(self, stopped: Sequence[int]) -> tuple[int, int, int]:
        """Puts into the sets in which these workers, who are stopped, hold a slot: slots held, puts
        that succeeded, puts that failed."""
    def recovered(self) -> tuple[int, int]:
        """Entries that the last `attach` kept and dropped; zeros after a clean stop."""
    def reaped(self) -> int:
        """Claims taken back from the dead so far."""
    def totals(self) -> dict[str, int]:
        """Sums over all workers, dead ones included; no attachment needed."""
    def beats(self) -> list[int]:
        """Rounds of each worker; no attachment needed."""
    def attached(self) -> list[bool]:
        """Which workers are at work; no attachment needed."""
    def take_longest_ns(self) -> list[int]:
        """Longest batch of each worker since the last call; no attachment needed."""
    def violations(self) -> list[dict[str, object]]:
        """The first things found wrong; no attachment needed."""
    def plant(self, wrong: str) -> None:
        """Damages the store: "torn", "wrong_key", "older_than_seen", "unpublished", "stuck"."""

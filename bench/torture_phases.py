"""What a run of the torture goes through: shapes of tables and of traffic, each hard in its way."""

from dataclasses import dataclass

from predawn.csrc import _torture


@dataclass(frozen=True, slots=True)
class Phase:
    """One table and its traffic; the fields are those of `_torture.create`.

    weight: its share of the run, over the sum of all weights. is_paced: workers rest most of the
    time, and what a kill does to the others' batches is measured; nobody is stopped then.
    """

    name: str
    weight: float
    capacity: int
    keys: int
    shared: int
    reads_per_put: int = 1
    read_keys: int = 48
    removes_in: int = 64
    floors_in: int = 0
    pause_us: int = 0
    expires: bool = False
    crowd: int = 0
    twins: bool = False

    @property
    def is_paced(self) -> bool:
        return self.pause_us > 0

    def create(self, store: str, oracle: str, workers: int, seed: int) -> None:
        """Makes the phase's store and oracle at these paths."""
        _torture.create(
            store,
            oracle,
            capacity=self.capacity,
            keys=self.keys,
            shared=self.shared,
            workers=workers,
            reads_per_put=self.reads_per_put,
            read_keys=self.read_keys,
            removes_in=self.removes_in,
            floors_in=self.floors_in,
            pause_us=self.pause_us,
            expires=self.expires,
            crowd=self.crowd,
            twins=self.twins,
            seed=seed,
        )


PHASES: dict[str, Phase] = {
    phase.name: phase
    for phase in (
        # Most reads: everything fits and lies in the caches.
        Phase("steady", 4, capacity=6000, keys=4096, shared=256, reads_per_put=24, read_keys=256),
        # Keys that all hash to two sets of many, with one fingerprint: every lookup must compare.
        Phase("crowd", 1.5, capacity=448, keys=40, shared=16, crowd=2, twins=True),
        # Every worker in one set: two free slots for all, whose versions go round at once.
        Phase("one set", 1.5, capacity=14, keys=20, shared=8),
        # Three keys overwritten at full speed.
        Phase("hot", 1.5, capacity=14, keys=3, shared=1, removes_in=1000),
        # More keys than fit, half of them too old, removals, whole snapshots given up.
        Phase(
            "classes", 1, capacity=1400, keys=4096, shared=256, reads_per_put=4, read_keys=256,
            removes_in=3, floors_in=3000, expires=True,
        ),
        # Processes with room to breathe: what a kill does to the others.
        Phase(
            "bystanders", 1, capacity=6000, keys=4096, shared=256, read_keys=256, pause_us=1000
        ),
    )
}  # fmt: skip

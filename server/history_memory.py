"""The history of users in plain memory: for training, replay and tests.

Same records, same features as `History` (both are `history_record`), nothing kept on disk.
"""

from collections.abc import Iterator, Sequence

from predawn.server.history_record import Events, RecordLayout
from predawn.server.request import UserBatch, UserId


class MemoryHistory:
    """Appends at once; about 1 KiB a user at `length` 32. Not for several threads."""

    def __init__(self, types: Sequence[str], attributes: Sequence[str], length: int) -> None:
        self.layout = RecordLayout(types, attributes, length)
        self._records: dict[UserId, bytearray] = {}

    def append_now(self, events: Events) -> int:
        """Applies the events (every `t_ms` >= 0) and returns their number."""
        for user in events.users:
            self._record(user)
        for user, _ in events.attributes:
            self._record(user)
        self.layout.apply(events, self._records)
        return len(events.users)

    def push(self, user: UserId, item: int, t_ms: int, types: int) -> None:
        """One event: item as its stable hash, `types` as bits in the order of the layout."""
        self.layout.push(self._record(user), item, t_ms, types)

    def gather(self, users: Sequence[UserId]) -> UserBatch:
        """What a user model sees of `users` now; H = length."""
        nothing = self.layout.nothing
        records = b"".join([self._records.get(user, nothing) for user in users])
        return self.layout.batch(users, records)

    def users(self) -> Iterator[UserId]:
        """All users seen, in order of first appearance."""
        return iter(self._records)

    def count_users(self) -> int:
        """How many users were seen."""
        return len(self._records)

    def _record(self, user: UserId) -> bytearray:
        record = self._records.get(user)
        if record is None:
            record = self._records[user] = bytearray(self.layout.nothing)
        return record

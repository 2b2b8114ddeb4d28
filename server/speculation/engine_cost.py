"""What a batch of pairs costs the engine: so much a user whose history must be encoded, so much a
pair. Fitted to the batches that ran (least squares, the old ones fading).

Invariant: both costs are at least 0, and encoding a user is never taken for dearer than `_MOST`
pairs. No clock and no loop.
"""

from collections import OrderedDict
from collections.abc import Sequence

from predawn.server.request import UserId

_FADE = 0.99
_MOST = 10_000.0
_KEPT_USERS = 1024
_CERTAIN = 1e-3  # of the normal equations' determinant, against that of independent columns


class EngineCost:
    """fixed_encode: pairs, 0: as measured."""

    def __init__(self, fixed_encode: float = 0.0) -> None:
        self._fixed = fixed_encode
        self._kept: OrderedDict[UserId, None] = OrderedDict()
        self._users2 = self._users_pairs = self._pairs2 = 0.0
        self._users_ns = self._pairs_ns = 0.0

    def encode_pairs(self, user: UserId) -> float:
        """What `user` costs beside his pairs, in pairs: nothing while his history is kept."""
        return 0.0 if user in self._kept else self.encode

    @property
    def encode(self) -> float:
        """What encoding one history costs, in pairs."""
        if self._fixed:
            return self._fixed
        per_user, per_pair = self._fit()
        return min(_MOST, per_user / per_pair) if per_pair > 0 else 0.0

    @property
    def pair_ns(self) -> float:
        """Engine time of one more pair."""
        return self._fit()[1]

    def ran(self, users: Sequence[UserId], pairs: int, engine_ns: int) -> None:
        """A batch of these users has run."""
        encoded = float(sum(user not in self._kept for user in users))
        sums = (self._users2, self._users_pairs, self._pairs2, self._users_ns, self._pairs_ns)
        new = (
            encoded * encoded,
            encoded * pairs,
            float(pairs * pairs),
            encoded * engine_ns,
            float(pairs * engine_ns),
        )
        faded = [_FADE * old + each for old, each in zip(sums, new, strict=True)]
        self._users2, self._users_pairs, self._pairs2, self._users_ns, self._pairs_ns = faded
        for user in users:
            self._kept[user] = None
            self._kept.move_to_end(user)
        while len(self._kept) > _KEPT_USERS:
            self._kept.popitem(last=False)

    def forget(self, users: Sequence[UserId]) -> None:
        """Histories of `users` must be encoded anew."""
        for user in users:
            self._kept.pop(user, None)

    def _fit(self) -> tuple[float, float]:
        """Nanoseconds per encoded user and per pair."""
        alone = self._pairs_ns / self._pairs2 if self._pairs2 else 0.0
        determinant = self._users2 * self._pairs2 - self._users_pairs**2
        if determinant <= _CERTAIN * self._users2 * self._pairs2:
            return 0.0, alone
        per_user = (
            self._users_ns * self._pairs2 - self._pairs_ns * self._users_pairs
        ) / determinant
        per_pair = (
            self._pairs_ns * self._users2 - self._users_ns * self._users_pairs
        ) / determinant
        if per_user < 0:
            return 0.0, alone
        if per_pair < 0:
            return (self._users_ns / self._users2, 0.0)
        return per_user, per_pair

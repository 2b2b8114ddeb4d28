"""By which vectors the users of a pair model's neighbours are known, and what has landed for users
whose vector is being computed anew.

Invariant: what waits for a user's new vector is given out once: when it comes, with the newest
there is when there is no room to wait, or never when the user is forgotten. At most
`_VECTORS_LIMIT` users are known and `_LATE_LIMIT` embeddings wait.

A user's first request after a while is answered with an old vector (SOAP), and misses many pairs.
Their embeddings are of the user as he is now: known by the old vector they would teach a regression
on vectors something wrong.
"""

from collections import OrderedDict
from dataclasses import dataclass

from predawn.server.request import F32, U64, UserId

_VECTORS_LIMIT = 65_536
_LATE_LIMIT = 8_192


@dataclass(frozen=True, slots=True)
class Late:
    """Embeddings rows [n, dim] of `user` with `items` [n], by `version` of the pair model."""

    user: UserId
    items: U64
    rows: F32
    version: int


@dataclass(slots=True)
class _Known:
    """renewed_by: user model that computes a new vector, "": none does."""

    vector: F32 | None
    renewed_by: str


class KnownUsers:
    """See the module. One by one, on the event loop's thread."""

    def __init__(self) -> None:
        self._users: OrderedDict[UserId, _Known] = OrderedDict()
        self._late: OrderedDict[UserId, list[Late]] = OrderedDict()
        self._waiting = 0

    def vector(self, user: UserId) -> F32 | None:
        """The newest, None: not known."""
        known = self._users.get(user)
        return None if known is None else known.vector

    def heard(self, user: UserId, vector: F32 | None, renewed_by: str = "") -> list[Late]:
        """`user` was served `vector` (None: nothing is known of him); `renewed_by`: the user model
        that computes a newer one. Returns what need not wait any more."""
        self._users.pop(user, None)
        self._users[user] = _Known(vector, renewed_by)
        if len(self._users) > _VECTORS_LIMIT:
            oldest, _ = self._users.popitem(last=False)
            self._taken(oldest)
        return [] if renewed_by else self._taken(user)

    def renewed(self, user_model: str, user: UserId, vector: F32) -> list[Late]:
        """A new vector of `user` has landed. Returns what waited for it."""
        known = self._users.get(user)
        if known is None or known.renewed_by != user_model:
            return []
        known.vector, known.renewed_by = vector, ""
        return self._taken(user)

    def landed(self, late: Late) -> list[Late]:
        """What can be learned from now: `late` itself, or, where that waits for a new vector, what
        there is no room for."""
        known = self._users.get(late.user)
        if known is None or not known.renewed_by:
            return [late]
        self._late.setdefault(late.user, []).append(late)
        self._waiting += len(late.items)
        given: list[Late] = []
        while self._waiting > _LATE_LIMIT:
            given += self._taken(next(iter(self._late)))
        return given

    def forget(self, user: UserId) -> None:
        """All of one user."""
        self._users.pop(user, None)
        self._taken(user)

    def clear(self) -> None:
        """All users."""
        self._users.clear()
        self._late.clear()
        self._waiting = 0

    def _taken(self, user: UserId) -> list[Late]:
        late = self._late.pop(user, [])
        self._waiting -= sum(len(each.items) for each in late)
        return late

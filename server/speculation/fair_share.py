"""How much each user has taken of the budget lately.

Invariant: of about `window` tokens spent last, a user that is not `over` has taken at most `share`,
plus what he takes next. Bounded: at every half window all counts are halved, and whoever is left
with less than one token is forgotten, so at most `window` users are remembered.
"""

from predawn.server.request import UserId


class FairShare:
    """share: 0 < share <= 1, of `window` tokens."""

    def __init__(self, share: float, window: float) -> None:
        self._allowed = share * window
        self._half = window / 2
        self._since = 0.0
        self._taken: dict[UserId, float] = {}

    def left(self, user: UserId) -> float:
        """Tokens that `user` may still take; 0 or less: he is over his share."""
        return self._allowed - self._taken.get(user, 0.0)

    def took(self, user: UserId, tokens: float) -> None:
        """`user` has taken `tokens`."""
        self._taken[user] = self._taken.get(user, 0.0) + tokens
        self._since += tokens
        while self._since >= self._half:
            self._since -= self._half
            self._taken = {name: each / 2 for name, each in self._taken.items() if each >= 2}

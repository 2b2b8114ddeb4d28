"""The least value a pair must have to be computed, steered so that spending meets the budget.

Invariant: between `least` and 1. The budget itself is kept by `PairBudget` whatever the price is;
the price only decides that the tokens go to the most valuable pairs instead of the first ones.
Proportional-integral control of the logarithm, in the time of pairs asked for: the integral finds
the level, the proportional part damps it (critically, where spending answers the price in
proportion).
"""

import math

_INTEGRAL = 0.25
_PROPORTIONAL = 1.0
_FIRST = 0.05
_SMALLEST = 1e-6


class Price:
    """least: `least_chance` of the model; target: tokens that `fullness` 1 stands for."""

    def __init__(self, least: float, target: float) -> None:
        self._lowest = math.log(max(least, _SMALLEST))
        self._target = target
        self._level = max(self._lowest, math.log(_FIRST))
        self._lacking = 0.0

    def asked(self, tokens: float, fullness: float) -> None:
        """`tokens` have come in, and the bucket is `fullness` full."""
        self._lacking = min(1.0, max(-3.0, 1 - fullness))
        step = _INTEGRAL * self._lacking * min(1.0, tokens / self._target)
        self._level = min(0.0, max(self._lowest, self._level + step))

    @property
    def value(self) -> float:
        """Least value per pair; a pair of value 1 is always worth it."""
        wanted = self._level + _PROPORTIONAL * self._lacking
        return math.exp(min(0.0, max(self._lowest, wanted)))

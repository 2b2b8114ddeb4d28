"""What predawn asks of a model. Any object with these members will do: no base class.

A factory is `"package.module:function"`; it is called as `function(snapshot_dir | None,
**options)` and returns a `UserModel`, a `PairModel` or a `RankerModel`. Shapes and dtypes are
checked on every call: a model that breaks its contract fails that batch (`InferenceError`) and
nothing else.
"""

from collections.abc import Generator
from typing import Protocol, runtime_checkable

from predawn.server.request import F32, PairBatch, RankBatch, UserBatch


class UserModel(Protocol):
    """Recent past of users -> embeddings. Called by the engine's thread only."""

    @property
    def dim(self) -> int:
        """Values per user: K embeddings of D, concatenated."""
        ...

    def embed(self, batch: UserBatch) -> F32:
        """float32 [B, dim], finite. Row b depends on user b alone."""
        ...


class PairModel(Protocol):
    """Recent past of users and candidate items -> one embedding per pair (SOLARIS' foundation
    model). Called by the engine's thread only, always behind the requests."""

    @property
    def dim(self) -> int:
        """Values per pair."""
        ...

    def embed_pairs(self, batch: PairBatch) -> F32:
        """float32 [R, dim], finite. Row r depends on its own user and item alone."""
        ...


@runtime_checkable
class SlicedPairModel(Protocol):
    """A `PairModel` that can be interrupted: the engine takes it in steps, and whatever a request
    waits for goes between two of them."""

    def pair_slices(self, batch: PairBatch) -> Generator[None, None, F32]:
        """Yields after every slice of work (at most about 1 ms on a GPU, some ms on a CPU);
        returns what `embed_pairs` returns."""
        ...


class RankerModel(Protocol):
    """User embeddings and candidates -> one probability per candidate and task."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the columns of `score`, e.g. ("click", "like")."""
        ...

    @property
    def item_features(self) -> tuple[str, ...]:
        """Names of the per-candidate numbers a request may send, in column order."""
        ...

    @property
    def inline(self) -> bool:
        """True: cheap enough for the event loop's thread (no torch). False: the engine's."""
        ...

    def score(self, batch: RankBatch) -> F32:
        """float32 [R, tasks] in 0..1."""
        ...

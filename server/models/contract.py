"""What predawn asks of a model. Any object with these members will do: no base class.

A factory is `"package.module:function"`; it is called as `function(snapshot_dir | None,
**options)` and returns a `UserModel` or a `RankerModel`. Shapes and dtypes are checked on every
call: a model that breaks its contract fails that batch (`InferenceError`) and nothing else.
"""

from typing import Protocol

from predawn.server.request import F32, RankBatch, UserBatch


class UserModel(Protocol):
    """Recent past of users -> embeddings. Called by the engine's thread only."""

    @property
    def dim(self) -> int:
        """Values per user: K embeddings of D, concatenated."""
        ...

    def embed(self, batch: UserBatch) -> F32:
        """float32 [B, dim], finite. Row b depends on user b alone."""
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

"""Clusters of users by their vectors: k-means.

Invariant: cluster i of a new fit is made from cluster i of the one before and keeps its `name`,
unless it had died; no name is ever used twice.
"""

from dataclasses import dataclass

import numpy as np

from predawn.server.request import F32, I64, U64

__all__ = ["Clusters", "fit_clusters"]

_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Clusters:
    """centres: float32 [k, d]; names: uint64 [k]; halves: float32 [k], half of |centre|^2."""

    centres: F32
    names: U64
    halves: F32

    def nearest(self, vector: F32) -> int:
        """The name of the cluster of `vector` [d] (Euclidean)."""
        return int(self.names[np.argmin(self.halves - self.centres @ vector)])


def fit_clusters(
    sample: F32, clusters: int, rng: np.random.Generator, before: Clusters | None = None
) -> Clusters:
    """Lloyd's rounds over `sample` [n, d] from the centres of `before`, or from k-means++ (Arthur
    and Vassilvitskii 2007), at most `clusters` and one for every two of the sample. A cluster
    without users starts anew, under a new name, at a vector far from its centre."""
    k = max(1, min(clusters, len(sample) // 2))
    if before is None:
        centres, names = _seeded(sample, k, rng), np.arange(1, k + 1, dtype=np.uint64)
    else:
        centres, names = before.centres.astype(np.float64), before.names.copy()
        more = k - len(centres)
        if more > 0:
            centres = np.concatenate([centres, _seeded(sample, more, rng, centres)])
            first = int(names.max()) + 1
            names = np.concatenate([names, np.arange(first, first + more, dtype=np.uint64)])
    for _ in range(_ROUNDS):
        at, distances = _assigned(sample, centres)
        moved = _means(sample, at, centres)
        _restart_dead(sample, at, distances, moved, names)
        if np.allclose(moved, centres, rtol=0, atol=1e-6):
            break
        centres = moved
    halves = (centres**2).sum(axis=1) / 2
    return Clusters(centres.astype(np.float32), names, halves.astype(np.float32))


def _seeded(
    sample: F32, k: int, rng: np.random.Generator, centres: np.ndarray | None = None
) -> np.ndarray:
    """k vectors, each drawn by its squared distance to those before it and to `centres`."""
    if centres is None:
        chosen = [int(rng.integers(len(sample)))]
        nearest = ((sample - sample[chosen[0]]) ** 2).sum(axis=1, dtype=np.float64)
    else:
        chosen, nearest = [], _assigned(sample, centres)[1]
    while len(chosen) < k:
        total = nearest.sum()
        odds = nearest / total if total > 0 else None
        chosen.append(int(rng.choice(len(sample), p=odds)))
        distances = ((sample - sample[chosen[-1]]) ** 2).sum(axis=1, dtype=np.float64)
        nearest = np.minimum(nearest, distances)
    return sample[chosen].astype(np.float64)


def _assigned(sample: F32, centres: np.ndarray) -> tuple[I64, np.ndarray]:
    """The nearest centre of each vector, and its squared distance."""
    halves = (centres**2).sum(axis=1) / 2 - sample @ centres.T
    at = halves.argmin(axis=1)
    squares = (sample.astype(np.float64) ** 2).sum(axis=1)
    return at, np.maximum(2 * halves[np.arange(len(at)), at] + squares, 0)


def _means(sample: F32, at: I64, centres: np.ndarray) -> np.ndarray:
    """The mean of each cluster's vectors; an empty one's centre as it was."""
    counts = np.bincount(at, minlength=len(centres))
    there = np.flatnonzero(counts)
    order = np.argsort(at, kind="stable")
    starts = (np.cumsum(counts) - counts)[there]
    means = centres.copy()
    means[there] = np.add.reduceat(sample[order], starts, dtype=np.float64) / counts[there, None]
    return means


def _restart_dead(
    sample: F32, at: I64, distances: np.ndarray, centres: np.ndarray, names: U64
) -> None:
    """Empty clusters go to the vectors farthest from their centres, and are others from now on."""
    dead = np.flatnonzero(np.bincount(at, minlength=len(centres)) == 0)
    if len(dead):
        centres[dead] = sample[np.argsort(-distances, kind="stable")[: len(dead)]]
        first = int(names.max()) + 1
        names[dead] = np.arange(first, first + len(dead), dtype=np.uint64)

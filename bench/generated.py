"""Vectors of any number and 384 or 768 dims whose clustering and spectrum follow real sentence embeddings.

A cluster is drawn as often as it occurs among the real rows (k-means, one cluster per 60 rows). A vector lies on the way
between two rows of its cluster, with Gaussian noise along the real principal axes. 768 dims are two such halves from the
same cluster, the second one weaker, under a random rotation. Queries come from the same process with other seeds.

Two habits of real conversations can be added. `duplicates`: so large a share of the rows are exact copies of rows of the
same block, a few of them often ("ok, thanks"). `drift`: every cluster has its time; at position t of the whole (0 to 1) a
cluster with time u is drawn exp(drift * cos(2 pi (u - t))) times as often as it occurs, so that topics come and go.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bench import data

Vectors = NDArray[np.float32]

_NOISE = {384: 0.5, 768: 0.5}  # with it, spectrum and neighbours' cosines are those of real rows (bench generator)


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Rows of norm 1."""
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


class Generated:
    """The process, fitted to real rows float32[n, d] of norm 1; dim is d or 2 d."""

    def __init__(
        self, real: Vectors, dim: int, noise: float | None = None, *, duplicates: float = 0.0, drift: float = 0.0
    ) -> None:
        rng = np.random.default_rng(11)
        self.duplicates, self.drift = duplicates, drift
        self.real, self.dim = real, dim
        self.noise = _NOISE[dim] if noise is None else noise
        clusters = len(real) // 60
        centroids = real[rng.choice(len(real), clusters, replace=False)]
        for _ in range(5):
            owner = np.concatenate([(real[at : at + 8192] @ centroids.T).argmax(1) for at in range(0, len(real), 8192)])
            sums = np.zeros_like(centroids)
            np.add.at(sums, owner, real)
            centroids = unit(sums + 1e-6 * centroids)
        self._order = np.argsort(owner, kind="stable")
        self._starts = np.searchsorted(owner[self._order], np.arange(clusters))
        self._sizes = np.bincount(owner, minlength=clusters)
        residual = real - centroids[owner]
        values, axes = np.linalg.eigh(residual.T @ residual / len(real))
        self._axes = (axes * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)
        self._times = rng.random(clusters)
        if dim != real.shape[1]:
            self._rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)

    def _half(self, rng: np.random.Generator, cluster: NDArray[np.int64]) -> Vectors:
        size, start = self._sizes[cluster], self._starts[cluster]
        a, b = (self.real[self._order[start + rng.integers(0, size)]] for _ in range(2))
        along = rng.random((len(cluster), 1), np.float32)
        noise = rng.standard_normal((len(cluster), self._axes.shape[0]), np.float32) @ self._axes
        return unit(a + along * (b - a) + np.float32(self.noise) * noise)

    def block(self, seed: int, count: int, at: float | None = None) -> Vectors:
        """float32[count, dim] of norm 1; at: position in the whole, for the drift; None = from all of it, no duplicates."""
        rng = np.random.default_rng(seed)
        weights = self._sizes.astype(np.float64)
        if at is not None and self.drift:
            weights *= np.exp(self.drift * np.cos(2 * np.pi * (self._times - at)))
        chosen = rng.choice(len(self._sizes), count, p=weights / weights.sum())
        rows = self._half(rng, chosen)
        if self.dim != self.real.shape[1]:
            rows = unit(np.concatenate([rows, np.float32(0.7) * self._half(rng, chosen)], axis=1) @ self._rotation)
        copies = int(self.duplicates * count) if at is not None else 0
        if copies:
            order = rng.permutation(count)
            # The square of a uniform number: few rows have many copies, most have none.
            originals = order[copies + (rng.random(copies) ** 2 * (count - copies)).astype(np.int64)]
            rows[order[:copies]] = rows[originals]
        return rows

    def blocks(self, count: int, seed: int = 0, size: int = 50_000) -> Iterator[Vectors]:
        """`count` vectors in blocks."""
        for at in range(0, count, size):
            yield self.block(seed + 1000 + at // size, min(size, count - at), at / count)


def fitted(dim: int, every: int = 1, **habits: float) -> Generated:
    """The process fitted to (every n-th of) the real conversations, or to an imitation where they are not at hand."""
    path = data.FOLDER / "dialogue" / "base.npy"
    real = np.load(path).astype(np.float32) if path.exists() else data.imitation(60_000, 384)
    return Generated(unit(real[::every]), dim, **habits)


def statistics(vectors: Vectors, queries: Vectors) -> dict[str, float]:
    """What a search depends on: how directions spread, how near neighbours are, how uneven they are shared."""
    values = np.linalg.eigvalsh(np.cov(vectors[:: max(1, len(vectors) // 20_000)].T))[::-1]
    values = np.maximum(values, 0) / values.sum()
    scores = np.concatenate([queries[at : at + 200] @ vectors.T for at in range(0, len(queries), 200)])
    best = -np.sort(-np.partition(scores, -100, axis=1)[:, -100:], axis=1)
    near = np.argpartition(scores, -10, axis=1)[:, -10:]
    times = np.bincount(near.ravel(), minlength=len(vectors)).astype(np.float64)
    return {
        "share of variance, 1 axis": float(values[0]),
        "10 axes": float(values[:10].sum()),
        "50 axes": float(values[:50].sum()),
        "100 axes": float(values[:100].sum()),
        "effective dims (1 / sum of squared shares)": float(1 / np.square(values).sum()),
        "cosine of the 1st neighbour, median": float(np.median(best[:, 0])),
        "10th": float(np.median(best[:, 9])),
        "100th": float(np.median(best[:, 99])),
        "cosine of any two, mean": float(scores.mean()),
        "standard deviation": float(scores.std()),
        "hubness: skew of how often a row is among the ten nearest": float(
            (((times - times.mean()) / times.std()) ** 3).mean()
        ),
    }


def main(argv: list[str] | None = None) -> None:
    """Print the statistics of real and of generated vectors side by side."""
    folder = data.FOLDER / "dialogue"
    real, queries = (unit(np.load(folder / f"{name}.npy").astype(np.float32)) for name in ("base", "queries"))
    columns = {"real x 384": statistics(real, queries[:2000])}
    for name, made in (
        ("generated x 384", Generated(real, 384)),
        ("with duplicates and drift", Generated(real, 384, duplicates=0.2, drift=1.0)),
        ("generated x 768", Generated(real, 768)),
    ):
        columns[name] = statistics(np.concatenate(list(made.blocks(len(real)))), made.block(5, 2000))
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name in columns["real x 384"]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.3f}" for column in columns.values()) + " |")

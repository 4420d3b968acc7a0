# SPDX-License-Identifier: Apache-2.0
"""Statistics of features, as a LeRobot dataset holds them: of every episode, and of all together."""

from __future__ import annotations

import numpy as np

QUANTILES = {'q01': 0.01, 'q10': 0.10, 'q50': 0.50, 'q90': 0.90, 'q99': 0.99}
Stats = dict[str, np.ndarray]


def of_rows(values: np.ndarray) -> Stats:
    """Of rows [T, n]: min, max, mean, std and quantiles float64 [n], count [1]."""
    values = np.asarray(values, float)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=0)
    return {'min': values.min(0), 'max': values.max(0), 'mean': values.mean(0), 'std': values.std(0),
            'count': np.array([len(values)]), **dict(zip(QUANTILES, quantiles))}


def histogram(image: np.ndarray) -> np.ndarray:
    """Counts of the 256 values in each channel of a uint8 [H, W, 3] image, int64 [3, 256]."""
    return np.stack([np.bincount(image[..., c].ravel(), minlength=256) for c in range(3)])


def of_histogram(counts: np.ndarray, frames: int) -> Stats:
    """Of the images behind a sum of `histogram`s, pixels scaled to [0, 1]: float64 [3, 1, 1], count [1]."""
    levels = np.arange(256) / 255.0
    total = counts.sum(1, keepdims=True)
    mean = counts @ levels / total[:, 0]
    variance = counts @ levels**2 / total[:, 0] - mean**2
    below = np.cumsum(counts, axis=1)
    present = counts > 0
    out = {'min': levels[present.argmax(1)], 'max': levels[255 - present[:, ::-1].argmax(1)], 'mean': mean,
           'std': np.sqrt(np.maximum(variance, 0.0)),
           **{name: levels[(below >= q * total).argmax(1)] for name, q in QUANTILES.items()}}
    return {**{name: v.reshape(3, 1, 1) for name, v in out.items()}, 'count': np.array([frames])}


def merge(parts: list[Stats]) -> Stats:
    """Of all rows of several episodes; exact but for the quantiles, which are the episodes' by weight."""
    counts = np.array([p['count'][0] for p in parts], float)

    def weighted(values):
        return np.tensordot(counts, np.stack(values), 1) / counts.sum()

    mean = weighted([p['mean'] for p in parts])
    variance = weighted([p['std'] ** 2 + (p['mean'] - mean) ** 2 for p in parts])
    return {'min': np.min([p['min'] for p in parts], axis=0), 'max': np.max([p['max'] for p in parts], axis=0),
            'mean': mean, 'std': np.sqrt(variance), 'count': np.array([int(counts.sum())]),
            **{name: weighted([p[name] for p in parts]) for name in QUANTILES}}

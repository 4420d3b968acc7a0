# SPDX-License-Identifier: Apache-2.0
"""Which episodes a batch is drawn from, and what share of it from which: sets by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

HELP = 'all, successful, policy:PATTERN (version that acted), episode:PATTERN (id), several joined by +'


def check_sets(sets: Sequence[str], shares: Sequence[float]) -> None:
    """ValueError, one line, if the sets have no meaning or their shares do not sum to 1."""
    if not sets:
        raise ValueError('sets: at least one is needed')
    for name in sets:
        for part in name.split('+'):
            kind, colon, pattern = part.partition(':')
            if part not in ('all', 'successful') and not (kind in ('policy', 'episode') and colon and pattern):
                raise ValueError(f'sets: {part!r:.80} is none; there are {HELP}')
    if shares and len(shares) != len(sets):
        raise ValueError(f'shares: {len(shares)} numbers for {len(sets)} sets')
    if shares and abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f'shares: they sum to {sum(shares):g}, not to 1')


def chosen(name: str, lines: Sequence) -> np.ndarray:
    """Which of the episodes (`replay_store.Line`) are in a set: bool [E]."""
    return np.array([all(_holds(part, line) for part in name.split('+')) for line in lines], bool)


def _holds(part: str, line) -> bool:
    if part in ('all', 'successful'):
        return part == 'all' or line.success
    kind, _, pattern = part.partition(':')
    return fnmatchcase(line.policy if kind == 'policy' else line.id, pattern)


def counts(shares: Sequence[float], batch_size: int) -> np.ndarray:
    """How many of a batch are from each set, [S]; they sum to it, and each is within one of its share."""
    return np.diff(np.round(np.cumsum([0.0, *shares]) * batch_size).astype(int))

# SPDX-License-Identifier: Apache-2.0
"""Which episodes a batch is drawn from, and what share of it from which: sets by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

HELP = ('all, successful, policy:PATTERN (version that acted), episode:PATTERN (id), reached:TASK (its reward was above 0), '
        'ended:TASK (it was above one half at the end), held_out:SHARE (so large a part of all episodes, evenly spread), '
        'learned:SHARE (the others), several joined by +, newest:N (of those that the other parts choose); with a ? at the end a '
        'set may be empty, and the others get its share')
_PATTERNS = ('policy', 'episode', 'reached', 'ended')
_SPLITS = ('held_out', 'learned')
_SHARE = re.compile(r'[0-9]*\.?[0-9]+(e-[0-9]{1,3})?', re.ASCII)


def check_sets(sets: Sequence[str], shares: Sequence[float]) -> None:
    """ValueError, one line, if the sets have no meaning or their shares do not sum to 1."""
    if not sets:
        raise ValueError('sets: at least one is needed')
    for name in sets:
        for part in name.removesuffix('?').split('+'):
            if not _has_meaning(part):
                raise ValueError(f'sets: {part!r:.80} is none; there are {HELP}')
    if shares and len(shares) != len(sets):
        raise ValueError(f'shares: {len(shares)} numbers for {len(sets)} sets')
    if shares and abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f'shares: they sum to {sum(shares):g}, not to 1')
    if not any(share for name, share in zip(sets, shares or [1.0] * len(sets)) if not name.endswith('?')):
        raise ValueError('sets: one with a share must not end with ?, to draw from while the others are empty')


def _has_meaning(part: str) -> bool:
    kind, _, value = part.partition(':')
    if kind in _SPLITS:
        return bool(_SHARE.fullmatch(value)) and 0 < float(value) < 1
    if kind == 'newest':
        return value.isascii() and value.isdigit() and int(value) > 0
    return part in ('all', 'successful') or (kind in _PATTERNS and bool(value))


def chosen(name: str, lines: Sequence) -> np.ndarray:
    """Which of the episodes (`replay_store.Line`, from the oldest to the newest) are in a set: bool [E]."""
    parts = name.removesuffix('?').split('+')
    newest = [int(part.partition(':')[2]) for part in parts if part.startswith('newest:')]
    splits = [part.partition(':') for part in parts if part.partition(':')[0] in _SPLITS]
    rest = [part for part in parts if part.partition(':')[0] not in ('newest', *_SPLITS)]
    mask = np.array([all(_holds(part, line) for part in rest) for line in lines], bool)
    for kind, _, share in splits:
        mask &= held_out(float(share), len(lines)) == (kind == 'held_out')
    if newest:
        mask[np.flatnonzero(mask)[:-min(newest)]] = False
    return mask


def held_out(share: float, count: int) -> np.ndarray:
    """Which of so many episodes are held out, bool [count]: evenly spread, so that all times and policies are among them."""
    return np.diff(np.floor(np.arange(count + 1) * share + 0.5)) > 0


def _holds(part: str, line) -> bool:
    if part in ('all', 'successful'):
        return part == 'all' or line.success
    kind, _, value = part.partition(':')
    if kind in ('reached', 'ended'):
        return value in getattr(line, kind)
    return fnmatchcase(line.policy if kind == 'policy' else line.id, value)


def filled(sets: Sequence[str], shares: Sequence[float], sizes: Sequence[int]) -> tuple[float, ...]:
    """The shares where those sets that may be empty, and are, leave theirs to the others, in proportion."""
    kept = [0.0 if name.endswith('?') and not size else share for name, share, size in zip(sets, shares, sizes)]
    return tuple(share / sum(kept) for share in kept)


def counts(shares: Sequence[float], batch_size: int) -> np.ndarray:
    """How many of a batch are from each set, [S]; they sum to it, and each is within one of its share."""
    return np.diff(np.round(np.cumsum([0.0, *shares]) * batch_size).astype(int))

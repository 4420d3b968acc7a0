# SPDX-License-Identifier: Apache-2.0
"""The five test triplets of RGB stacking: (red, green, blue) shapes by the benchmark's names."""

from __future__ import annotations

TRIPLETS: dict[int, tuple[str, str, str]] = {
    1: ('r3', 's0', 'b2'),
    2: ('r5', 'g2', 'b3'),
    3: ('r6', 'g3', 'b5'),
    4: ('s0', 'g5', 'b6'),
    5: ('r2', 'g6', 's0'),
}


def triplet(number: int) -> tuple[str, str, str]:
    """Shapes (red, green, blue) of a triplet; ValueError for one that does not exist."""
    if number not in TRIPLETS:
        raise ValueError(f'triplet {number!r} does not exist, choose one of 1..{len(TRIPLETS)}')
    return TRIPLETS[number]

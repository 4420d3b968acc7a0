# SPDX-License-Identifier: Apache-2.0
"""Which external cell runs which trial next.

One process, the stage, decides, and writes it down whole: so a trial that is not done is in one cell's hand at most. It is
taken from there only when that cell has given no sign of life for `silent_s`, and then it is the next to be given, so none is
lost. A cell that was only cut off may still run what it had: then the first whole bag of a trial counts, and no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Handout:
    """Of one plan.

    Args:
      numbers: of the trials that are not done, in the order in which they are to be run.
      silent_s: s without a sign of life until a cell's trials go to others.
      hands: what cells have in hand from before this process, which count as heard of now.
      ahead: trials in a cell's hand, so that it need not wait for the storage between two.
    """

    def __init__(self, numbers: Sequence[int], silent_s: float, hands: Mapping[str, Sequence[int]] | None = None,
                 ahead: int = 2):
        self._left, self._silent_s, self._ahead = list(numbers), silent_s, ahead
        self._hands: dict[str, list[int]] = {}
        given: set[int] = set()
        for cell, hand in sorted((hands or {}).items()):
            self._hands[cell] = [n for n in hand if n in self._left and n not in given]
            given.update(self._hands[cell])
        self._heard = dict.fromkeys(self._hands, 0.0)
        self._signs: dict[str, Any] | None = None

    def done(self, number: int) -> None:
        """A whole bag of this trial is here."""
        if number in self._left:
            self._left.remove(number)
        for hand in self._hands.values():
            if number in hand:
                hand.remove(number)

    def hear(self, signs: Mapping[str, Any], now: float) -> None:
        """Cells' signs of life as they are now; a cell lives when its sign is another than at the look before.

        Args:
          now: s since this object was made, as far as the signs could be read.
        """
        for cell, sign in signs.items():
            if self._signs is not None and self._signs.get(cell) != sign:
                self._heard[cell] = now
        self._signs = {**(self._signs or {}), **signs}

    def hands(self, now: float) -> dict[str, tuple[int, ...]]:
        """Living cell to its trials, the next first, after what is free was dealt out in order, one each in turn."""
        for cell in [c for c, at in self._heard.items() if now - at > self._silent_s]:
            del self._heard[cell]
            self._hands.pop(cell, None)
        for cell in self._heard:
            self._hands.setdefault(cell, [])
        held = {n for hand in self._hands.values() for n in hand}
        free = [n for n in self._left if n not in held]
        for size in range(self._ahead):
            for cell in sorted(self._hands):
                if free and len(self._hands[cell]) == size:
                    self._hands[cell].append(free.pop(0))
        return {cell: tuple(hand) for cell, hand in self._hands.items()}

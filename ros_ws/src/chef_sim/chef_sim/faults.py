# SPDX-License-Identifier: Apache-2.0
"""Faults of the simulated hardware: what real sensors do when they go wrong, on request and for tests only.

Nothing is faulty until a client asks for it. A fault changes what the world sends, never what it simulates.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass

from chef_sim.streams import STREAMS

# kind: (what `amount` is, lowest and highest value allowed)
KINDS = {
    'freeze': ('unused', 0.0, 0.0),                 # stamps advance, content repeats
    'silence': ('unused', 0.0, 0.0),                # no samples
    'nan': ('unused', 0.0, 0.0),                    # every reading that is not a whole number is missing
    'absurd': ('the reading', -1e12, 1e12),         # of every field that is not a whole number
    'spike': ('N', -1e6, 1e6),                      # wrench only: the force along z
    'delay': ('s', 0.0, 60.0),                      # samples arrive late, in order
    'drop': ('share of the samples', 0.0, 1.0),     # at random
    'clock_jump': ('s', -1e6, 1e6),                 # stamps are off by it
}
_NO_PICTURE = ('nan', 'absurd')     # a camera renders what it is told: there is no picture of these
_LONGEST_S = 86400.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong; ValueError if it cannot.

    kind: one of KINDS. stream: which, '' for all. client: whose, by the name in its hello, '' for everybody's.
    amount: in the unit of its kind. duration_s: of the world's time; 0: until cleared. seed: of `drop`.
    """

    kind: str
    stream: str = ''
    client: str = ''
    amount: float = 0.0
    duration_s: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f'fault {self.kind!r} does not exist, choose of {", ".join(KINDS)}')
        if self.stream not in ('', *STREAMS):
            raise ValueError(f'stream {self.stream!r} does not exist, choose of {", ".join(STREAMS)}')
        unit, low, high = KINDS[self.kind]
        if not low <= self.amount <= high:
            raise ValueError(f'the amount of {self.kind} ({unit}) must be within {low:g}..{high:g}, '
                             f'not {self.amount!r}')
        if not 0.0 <= self.duration_s <= _LONGEST_S:
            raise ValueError(f'duration_s must be within 0..{_LONGEST_S:g}, not {self.duration_s!r}')
        if self.kind == 'spike' and self.stream != 'wrench':
            raise ValueError('a spike is of the wrench')
        if self.kind in _NO_PICTURE and self.stream in ('', 'render'):
            raise ValueError(f'{self.kind} needs a stream other than render')


class _Active:
    """A fault that is on, with what it remembers of each client."""

    def __init__(self, fault: Fault, now_ns: int):
        self.fault = fault
        self.until_ns = now_ns + int(fault.duration_s * 1e9) if fault.duration_s else math.inf
        self.held: dict[str, deque[tuple[int, dict]]] = {}  # client to (when it may go, sample), of `delay`
        self._content: dict[tuple[str, str], dict] = {}     # (client, stream) to the sample that repeats
        self._random = random.Random(fault.seed)

    def over(self, now_ns: int) -> bool:
        return now_ns >= self.until_ns and not any(self.held.values())

    def alter(self, client: str, samples: list[dict], now_ns: int) -> list[dict]:
        if self.fault.client not in ('', client):
            return samples
        if self.fault.kind == 'delay':
            return self._delay(client, samples, now_ns)
        if now_ns >= self.until_ns:
            return samples
        changed = (self._change(client, s) if self.fault.stream in ('', s['stream']) else s for s in samples)
        return [s for s in changed if s is not None]

    def _change(self, client: str, sample: dict) -> dict | None:
        kind, amount = self.fault.kind, self.fault.amount
        if kind == 'silence' or (kind == 'drop' and self._random.random() < amount):
            return None
        if kind == 'freeze':
            return {**self._content.setdefault((client, sample['stream']), sample), 'stamp': sample['stamp']}
        if kind == 'clock_jump':
            return {**sample, 'stamp': max(0, sample['stamp'] + int(amount * 1e9))}
        if kind == 'spike':
            return {**sample, 'force': [0.0, 0.0, amount]}
        if kind in ('nan', 'absurd'):
            return _replace_floats(sample, None if kind == 'nan' else amount)
        return sample

    def _delay(self, client: str, samples: list[dict], now_ns: int) -> list[dict]:
        late_ns = int(self.fault.amount * 1e9) if now_ns < self.until_ns else 0
        passed, held = [], self.held.setdefault(client, deque())
        for s in samples:
            if self.fault.stream in ('', s['stream']):
                held.append((now_ns + late_ns, s))
            else:
                passed.append(s)
        due = []
        while held and held[0][0] <= now_ns:
            due.append(held.popleft()[1])
        return due + passed


def _replace_floats(value, by):
    if isinstance(value, dict):
        return {k: _replace_floats(v, by) for k, v in value.items()}
    if isinstance(value, list):
        return [_replace_floats(v, by) for v in value]
    return by if isinstance(value, float) else value


class Faults:
    """All faults that are on; used from the server's thread only."""

    def __init__(self):
        self._active: list[_Active] = []

    def start(self, fault: Fault, now_ns: int) -> None:
        """From now on, besides those that are on already."""
        self._active.append(_Active(fault, now_ns))

    def clear(self) -> None:
        """Ends all; what a delay still holds is lost."""
        self._active.clear()

    def any(self, now_ns: int) -> bool:
        """Whether samples need to be looked at."""
        self._active = [a for a in self._active if not a.over(now_ns)]
        return bool(self._active)

    def alter(self, client: str, samples: list[dict], now_ns: int) -> list[dict]:
        """What the client of that name gets instead; None in a sample stands for a reading that is not there."""
        for active in self._active:
            samples = active.alter(client, samples, now_ns)
        return samples

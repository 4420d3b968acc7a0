# SPDX-License-Identifier: Apache-2.0
"""Noise that hangs together over time, for a policy's samples while it collects.

White noise on the velocities of a slow arm shakes it on the spot: its tool's position is a random walk. Noise whose
power falls with the frequency f as f^-color moves it about, and each sample alone is distributed as before. Pink noise,
color 1, was found the best for MPO over many tasks (Eberhard et al. 2023, "Pink noise is all you need").
"""

from __future__ import annotations

import numpy as np

BLOCK = 512     # steps that are drawn at once: no slower motion is in it; an episode has 400


class ColoredNoise:
    """`size` independent series of standard normal values.

    Args:
      color: 0 white, 1 pink, 2 brown.
      rng: where all values come from.
    """

    def __init__(self, color: float, size: int, rng: np.random.Generator):
        self._color, self._size, self._rng = color, size, rng
        self.reset()

    def reset(self) -> None:
        """What follows has nothing to do with what was."""
        self._values, self._next = np.empty((0, self._size)), 0

    def step(self) -> np.ndarray:
        """The next value of each series, [size]."""
        if self._next == len(self._values):
            self._values, self._next = powerlaw(self._color, BLOCK, self._size, self._rng), 0
        self._next += 1
        return self._values[self._next - 1]


def powerlaw(color: float, steps: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Series of unit variance with a spectrum of f^-color, [steps, size] (Timmer and König 1995).

    Args:
      steps: even; the frequency 0 gets the power of the lowest above it, so that means differ between draws.
    """
    frequency = np.fft.rfftfreq(steps)
    frequency[0] = frequency[1]
    amplitude = frequency ** (-color / 2)
    parts = rng.standard_normal((2, len(frequency), size))
    parts[1, [0, -1]] = 0.0                     # those two have no phase,
    parts[0, [0, -1]] *= np.sqrt(2.0)           # and all their power in the real part
    series = np.fft.irfft((parts[0] + 1j * parts[1]) * amplitude[:, None], steps, axis=0)
    power = amplitude ** 2
    variance = 2.0 * (power[0] + power[-1] + 2.0 * power[1:-1].sum()) / steps ** 2
    return series / np.sqrt(variance)

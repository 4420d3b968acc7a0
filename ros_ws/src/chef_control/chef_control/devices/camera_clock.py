# SPDX-License-Identifier: Apache-2.0
"""A camera's own clock, mapped to the system's. No ROS."""

from __future__ import annotations

from collections import deque

_GIVE_UP_NS = 60 * 10**9


class CameraClock:
    """System time of capture from the ticks that a camera stamps its pictures with.

    A picture arrives some delay after its capture, which is never negative and now and then as short as it can be. So
    arrival - ticks, the offset of the clocks plus the delay, is closest to the offset where it is smallest: a running
    minimum over `window_s` follows it (as in one-way clock filters, e.g. Olson, *A Passive Solution to the Sensor
    Synchronization Problem*, IROS 2010). What is left is the shortest delay itself, which cannot be seen from here
    (`latency_s`), and the drift of the clocks over the window: at 100 ppm and 10 s a millisecond.

    What only pretends to be a clock, as the time of a stream that counts pictures at a nominal rate, falls behind by
    `reset_s` again and again: the second time within a minute it is given up, and the arrival counts (`usable`).

    Args:
      window_s: of the minimum.
      latency_s: known shortest delay from the middle of the exposure to arrival, subtracted.
      reset_s: a picture that seems later than that, or ticks that go back, mean that the camera's clock was set anew.
    """

    def __init__(self, window_s: float = 10.0, latency_s: float = 0.0, reset_s: float = 1.0):
        self._window, self._reset = int(window_s * 1e9), int(reset_s * 1e9)
        self._latency = int(latency_s * 1e9)
        self._minima: deque[tuple[int, int]] = deque()      # arrival, offset; offsets grow from left to right
        self._ticks = self._stamp = 0
        self.resets = 0
        self.usable = True
        self._late_at: int | None = None    # arrival of the picture that seemed too late, the last time

    def stamp(self, ticks_ns: int | None, arrival_ns: int) -> int:
        """When a picture was taken, ns of the system's clock; later than the one before, never after its arrival.

        ticks_ns: the camera's stamp, ns of its clock; None if it has none: the arrival counts then.
        """
        taken = arrival_ns
        if ticks_ns is not None and self.usable:
            taken = min(ticks_ns + self._offset(ticks_ns, arrival_ns), arrival_ns)
        # Stamps go forward even where the offset's estimate just fell; the step is less than a picture's period.
        self._stamp = max(taken - self._latency, self._stamp + 1)
        return self._stamp

    def _offset(self, ticks: int, arrival: int) -> int:
        offset = arrival - ticks
        if self._minima and (ticks <= self._ticks or offset - self._minima[0][1] > self._reset):
            if ticks > self._ticks:
                self.usable = self._late_at is None or arrival - self._late_at > _GIVE_UP_NS
                self._late_at = arrival
            self._minima.clear()
            self.resets += 1
        self._ticks = ticks
        while self._minima and self._minima[-1][1] >= offset:
            self._minima.pop()
        self._minima.append((arrival, offset))
        while self._minima[0][0] < arrival - self._window:
            self._minima.popleft()
        return self._minima[0][1]

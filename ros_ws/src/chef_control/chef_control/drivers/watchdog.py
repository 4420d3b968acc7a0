# SPDX-License-Identifier: Apache-2.0
"""The drivers' own watchdog: an actuator whose command is too old is stopped, whoever is to blame."""

from __future__ import annotations

MOVE = 1


class CommandWatchdog:
    """Ages are of arrival, on a monotonic clock in s. A HOLD asks for no further command."""

    def __init__(self, age_limit_s: float):
        self._limit = age_limit_s
        self._at: float | None = None
        self.trips = 0

    def command(self, mode: int, now_s: float) -> None:
        self._at = now_s if mode == MOVE else None

    def expired(self, now_s: float) -> bool:
        """True once per silence; the driver then stops its actuator."""
        if self._at is None or now_s - self._at <= self._limit:
            return False
        self._at = None
        self.trips += 1
        return True

# SPDX-License-Identifier: Apache-2.0
"""The drivers' own watchdog: an actuator whose command is too old is stopped, whoever is to blame."""

from __future__ import annotations

from chef_control.safety import MOVE


class CommandWatchdog:
    """Silence is of arrival, on a monotonic clock in s. A HOLD asks for no further command."""

    def __init__(self, age_limit_s: float):
        self._limit = age_limit_s
        self._at: float | None = None
        self.trips = 0      # silences
        self.refused = 0    # commands too old

    def admits(self, mode: int, age_s: float, now_s: float) -> bool:
        """Whether to obey a command; age_s: by its stamp, 0 where that says nothing.

        A command to move that was under way for too long, or comes from the future, does not end a silence.
        """
        if mode == MOVE and not abs(age_s) <= self._limit:
            self.refused += 1
            return False
        self._at = now_s if mode == MOVE else None
        return True

    def expired(self, now_s: float) -> bool:
        """True once per silence; the driver then stops its actuator."""
        if self._at is None or now_s - self._at <= self._limit:
            return False
        self._at = None
        self.trips += 1
        return True

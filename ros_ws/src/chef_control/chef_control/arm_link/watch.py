# SPDX-License-Identifier: Apache-2.0
"""What the robot is told, from what the driver says and what the robot shows: no ROS, no clock of its own."""

from __future__ import annotations

from .wire import LOST_S, SILENCE_S

REST_S = 0.3    # of zeros after the last command; then nothing, and the robot holds its position by itself


class Watch:
    """Velocity commands with a watchdog towards both sides. Times are monotonic, s."""

    def __init__(self, size, now_s):
        self._zero = [0.0] * size
        self._velocity, self._commanded_s = self._zero, None
        self._driver_s = self._robot_s = now_s
        self.stops = 0      # silences that ended a motion

    def command(self, velocity, now_s):
        """A fresh command of the driver, [n] rad/s."""
        self._velocity, self._commanded_s, self._driver_s = velocity, now_s, now_s

    def driver_lives(self, at_s):
        """When the newest packet of the driver came, be it fresh or late."""
        self._driver_s = max(self._driver_s, at_s)

    def robot_lives(self, now_s):
        """The robot has told its joints."""
        self._robot_s = now_s

    def output(self, now_s):
        """What to tell the robot now: [n] rad/s, or None for nothing, as nothing is asked for."""
        if self._commanded_s is None:
            return None
        age = now_s - self._commanded_s
        if age > SILENCE_S or now_s - self._robot_s > SILENCE_S:
            if any(self._velocity):
                self.stops += 1
            self._velocity = self._zero
        if age > SILENCE_S + REST_S:
            self._commanded_s = None
            return None
        return self._velocity

    def fault(self, now_s):
        """Who has been silent for too long to go on, in one line, or ''."""
        if now_s - self._robot_s > LOST_S:
            return 'the robot has not told its joints for %.1f s' % (now_s - self._robot_s)
        if now_s - self._driver_s > LOST_S:
            return 'the driver has been silent for %.1f s' % (now_s - self._driver_s)
        return ''

# SPDX-License-Identifier: Apache-2.0
"""The safety gate: what may reach the drivers.

It stands between the controller and the drivers. A trip latches: velocities stay zero until `clear`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from chef_task.limits import Limits
from chef_task.records import Reason

HOLD, MOVE = 0, 1


@dataclass(frozen=True)
class JointCommand:
    """velocity: [n] rad/s. gripper: [-1, 1], positive closes. mode: HOLD or MOVE. stamp: ns."""

    stamp: int
    mode: int
    velocity: np.ndarray
    gripper: float


class SafetyGate:
    """Plain logic of the gate.

    Ages are measured on arrival, on the monotonic clock that each call passes in ns. In lockstep, where
    simulated time waits for commands, an age limit is at least `lockstep_deadline_s` of wall time.
    """

    WATCHED = ('wrench', 'joints')

    def __init__(self, limits: Limits, lockstep_deadline_s: float = 0.0):
        self._limits = limits
        self._least_age_s = lockstep_deadline_s
        self._speed = np.asarray(limits.joint_velocity_rad_s)
        self._last_command: tuple[int, int] | None = None  # clock, mode
        self._seen: dict[str, int] = {}
        self.reason = ''
        self.force_n = 0.0
        self.peak_force_n = 0.0

    @property
    def stopped(self) -> bool:
        return bool(self.reason)

    @property
    def moving(self) -> bool:
        """Whether a further command is due."""
        return self._last_command is not None and self._last_command[1] == MOVE

    def trip(self, reason: str) -> None:
        """Latches the stop; the first reason stays."""
        if not self.reason:
            self.reason = reason

    def clear(self) -> str:
        """Ends a latched stop and forgets the peak force; motion needs a fresh command.

        Returns:
          '', or why the arm may not move yet: a sensor has not been heard of, or a process of the cell was
          lost, in which case the stop stays and only a restart ends it.
        """
        if self.reason == Reason.NODE_LOST.value:
            return self.reason
        missing = [s for s in self.WATCHED if s not in self._seen]
        if missing:
            return f'{Reason.STALE_SENSOR.value}:{missing[0]} has not been heard of'
        self.reason = ''
        self.peak_force_n = self.force_n if math.isfinite(self.force_n) else 0.0
        self._last_command = None
        return ''

    def on_wrench(self, force, clock_ns: int) -> None:
        """force: [3] N."""
        self._seen['wrench'] = clock_ns
        self.force_n = float(np.linalg.norm(force))
        if not math.isfinite(self.force_n):
            self.trip(f'{Reason.BAD_SENSOR.value}:wrench')
            return
        self.peak_force_n = max(self.peak_force_n, self.force_n)
        if self.force_n >= self._limits.force_n:
            self.trip(f'{Reason.FORCE_LIMIT.value}:{self.force_n:.1f} N')

    def on_joints(self, position, velocity, clock_ns: int) -> None:
        """position: [n] rad, velocity: [n] rad/s, as measured."""
        if len(position) != self._speed.size or len(velocity) != self._speed.size:
            self.trip(f'{Reason.BAD_SENSOR.value}:joints has {len(position)} positions')
            return
        self._seen['joints'] = clock_ns
        if not (np.all(np.isfinite(position)) and np.all(np.isfinite(velocity))):
            self.trip(f'{Reason.BAD_SENSOR.value}:joints')

    def filter(self, command: JointCommand, clock_ns: int) -> JointCommand:
        """The command that may go on to the drivers."""
        zero = JointCommand(command.stamp, command.mode, np.zeros_like(self._speed), 0.0)
        velocity = np.asarray(command.velocity, float)
        if velocity.shape != self._speed.shape or not np.all(np.isfinite(velocity)) \
                or not math.isfinite(command.gripper):
            self.trip(f'{Reason.LIMIT_VIOLATED.value}:command is not {self._speed.size} finite velocities')
            return zero
        over = np.abs(velocity) > self._speed * 1.001
        if np.any(over):
            joint = int(np.argmax(over))
            self.trip(f'{Reason.LIMIT_VIOLATED.value}:joint {joint} at {velocity[joint]:.2f} rad/s')
            return zero
        if command.mode == MOVE:
            self.check(clock_ns)
        self._last_command = (clock_ns, command.mode)
        if self.stopped or command.mode == HOLD:
            return zero
        return command

    def check(self, clock_ns: int) -> None:
        """Trips on a stale command or sensor while motion is under way; call it often."""
        if not self.moving:
            return
        since = (clock_ns - self._last_command[0]) * 1e-9
        if since > max(self._limits.command_age_s, self._least_age_s):
            self.trip(f'{Reason.STALE_COMMAND.value}:{since * 1e3:.0f} ms')
        for stream in self.WATCHED:
            age = (clock_ns - self._seen.get(stream, 0)) * 1e-9
            if age > max(self._limits.sensor_age_s[stream], self._least_age_s):
                self.trip(f'{Reason.STALE_SENSOR.value}:{stream}')

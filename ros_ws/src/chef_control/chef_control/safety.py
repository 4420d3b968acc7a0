# SPDX-License-Identifier: Apache-2.0
"""The safety gate: what may reach the drivers.

It stands between the controller and the drivers. A trip latches: velocities stay zero until `clear`.

Three kinds of stop, each harder to end than the one before: what the gate itself saw (force, silence, limits)
may be cleared by the automation, an operator's stop by an operator only, a lost process by a restart only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from chef_task.limits import Limits
from chef_task.records import Reason

HOLD, MOVE = 0, 1
RELIEF_N = 1.0      # by which the force may rise again while the arm backs out of what it pressed against
RELIEF_MOST = 2.0   # times the limit: an arm that is pressed harder needs a person
_OVER = 1.001       # of a velocity bound: numbers that come from a solver


def _rank(reason: str) -> int:
    """0: no stop, 1: the automation may clear it, 2: an operator may, 3: nobody may."""
    kind = reason.split(':', 1)[0]
    return {'': 0, Reason.OPERATOR_STOP.value: 2, Reason.NODE_LOST.value: 3}.get(kind, 1)


@dataclass(frozen=True)
class JointCommand:
    """velocity: [n] rad/s. gripper: [-1, 1], positive closes. mode: HOLD or MOVE. stamp: ns."""

    stamp: int
    mode: int
    velocity: np.ndarray
    gripper: float


class SafetyGate:
    """Plain logic of the gate.

    Silences are measured on arrival, on the monotonic clock that each call passes in ns. In lockstep, where
    simulated time waits for commands, an age limit is at least `lockstep_deadline_s` of wall time.

    Args:
      joint_range: lower and upper positions, rad, [n] each; None: not checked.
    """

    WATCHED = ('wrench', 'joints')

    def __init__(self, limits: Limits, lockstep_deadline_s: float = 0.0, joint_range=None):
        self._configured = limits
        self.limits = limits            # in force: those of the config, or tighter ones
        self.speed_scale = 1.0
        self._least_age_s = lockstep_deadline_s
        self._speed = np.asarray(limits.joint_velocity_rad_s)
        self._overspeed = limits.joint_overspeed * self._speed
        lower, upper = joint_range if joint_range is not None else (-np.inf, np.inf)
        self._lower, self._upper = lower - limits.joint_overrun_rad, upper + limits.joint_overrun_rad
        # the same as floats: this is looked at 100 times a second
        sides = (np.broadcast_to(v, self._speed.shape).tolist() for v in (self._lower, self._upper, self._overspeed))
        self._ranges = list(zip(*sides))
        self._last_command: tuple[int, int] | None = None  # clock, mode
        self._seen: dict[str, int] = {}
        self.reason = ''                # of the latched stop
        self.held = ''                  # why nothing may move for now, without a latch; set by the owner
        self.force_n = 0.0
        self.peak_force_n = 0.0
        self._relief_n = 0.0            # N, instead of the limit while the arm backs out; 0: the limit holds

    @property
    def stopped(self) -> bool:
        return bool(self.why)

    @property
    def why(self) -> str:
        """Why the arm is stopped, or ''."""
        return self.reason or self.held

    @property
    def moving(self) -> bool:
        """Whether a further command is due."""
        return self._last_command is not None and self._last_command[1] == MOVE

    def trip(self, reason: str) -> None:
        """Latches the stop. The first reason stays, until one comes that is harder to clear."""
        if _rank(reason) > _rank(self.reason):
            self.reason = reason

    def tighten(self, force_n: float, speed_scale: float) -> None:
        """Puts tighter limits in force, at once; ValueError if they are looser than those in force.

        force_n: N. speed_scale: of the configured joint velocities; faster commands are slowed down to it.
        """
        limits = self._configured.tightened(force_n, speed_scale)
        if not limits.is_tighter_than(self.limits):
            raise ValueError(f'limits can only be tightened: in force are {self.limits.force_n:g} N and a speed '
                             f'scale of {self.speed_scale:g}')
        self.limits = limits
        self.speed_scale = speed_scale

    def forget_command(self) -> None:
        """No further command is due; motion needs a fresh one."""
        self._last_command = None

    def clear(self, by_operator: bool = False) -> str:
        """Ends a latched stop and forgets the peak force; motion needs a fresh command.

        An arm that stopped at the force limit still presses as hard. It may then back out: until the force has
        fallen below the limit it must not rise again by more than RELIEF_N.

        Returns:
          '', or why the arm may not move yet: a sensor has not been heard of, or the stop is not the caller's
          to end.
        """
        if _rank(self.reason) > (2 if by_operator else 1):
            return self.reason
        missing = [s for s in self.WATCHED if s not in self._seen]
        if missing:
            return f'{Reason.STALE_SENSOR.value}:{missing[0]} has not been heard of'
        if self.force_n > RELIEF_MOST * self.limits.force_n:
            return f'{Reason.FORCE_LIMIT.value}:{self.force_n:.1f} N, too much to back out of'
        self._relief_n = self.force_n + RELIEF_N if self.force_n >= self.limits.force_n else 0.0
        self.reason = ''
        self.peak_force_n = self.force_n if math.isfinite(self.force_n) else 0.0
        self.forget_command()
        return self.held

    def on_wrench(self, force, torque, clock_ns: int) -> None:
        """force: [3] N, torque: [3] N m."""
        self._seen['wrench'] = clock_ns
        self.force_n, torque_nm = math.hypot(*force), math.hypot(*torque)
        if not (self.force_n <= self.limits.force_range_n and torque_nm <= self.limits.torque_range_nm):
            self.trip(f'{Reason.BAD_SENSOR.value}:wrench of {self.force_n:.0f} N, {torque_nm:.0f} N m')
            return
        self.peak_force_n = max(self.peak_force_n, self.force_n)
        if self.force_n < self.limits.force_n:
            self._relief_n = 0.0
            return
        if self._relief_n:
            self._relief_n = min(self._relief_n, self.force_n + RELIEF_N)
        if self.force_n > self._relief_n:
            self.trip(f'{Reason.FORCE_LIMIT.value}:{self.force_n:.1f} N')

    def on_joints(self, position, velocity, clock_ns: int) -> None:
        """position: [n] rad, velocity: [n] rad/s, as measured."""
        if len(position) != self._speed.size or len(velocity) != self._speed.size:
            self.trip(f'{Reason.BAD_SENSOR.value}:joints has {len(position)} positions')
            return
        self._seen['joints'] = clock_ns
        if self._in_range(position, velocity):
            return
        position, velocity = np.asarray(position), np.asarray(velocity)
        within = (self._lower <= position) & (position <= self._upper)      # not so if it is NaN
        slow = np.abs(velocity) <= self._overspeed
        if not (np.isfinite(position).all() and np.isfinite(velocity).all()):
            self.trip(f'{Reason.BAD_SENSOR.value}:joints')
        elif not within.all():
            joint = int(np.argmin(within))
            self.trip(f'{Reason.LIMIT_VIOLATED.value}:joint {joint} is at {position[joint]:.2f} rad')
        else:
            joint = int(np.argmin(slow))
            self.trip(f'{Reason.LIMIT_VIOLATED.value}:joint {joint} moves at {velocity[joint]:.2f} rad/s')

    def _in_range(self, position, velocity) -> bool:
        """Whether all joints are where and as slow as they may be; not so if a number is NaN."""
        return all(low <= q <= high and -fast <= v <= fast
                   for q, v, (low, high, fast) in zip(position, velocity, self._ranges))

    def on_silence(self, actuator: str) -> None:
        """An actuator's driver has had no command in time; of no matter where none is due."""
        if self.moving:
            self.trip(f'{Reason.STALE_COMMAND.value}:none reached the {actuator}')

    def filter(self, command: JointCommand, clock_ns: int, age_s: float = 0.0) -> JointCommand:
        """The command that may go on to the drivers; age_s: by its stamp, 0 where that says nothing."""
        zero = JointCommand(command.stamp, command.mode, np.zeros_like(self._speed), 0.0)
        velocity = np.asarray(command.velocity, float)
        if velocity.shape != self._speed.shape or not np.all(np.isfinite(velocity)) \
                or not math.isfinite(command.gripper):
            self.trip(f'{Reason.LIMIT_VIOLATED.value}:command is not {self._speed.size} finite velocities')
            return zero
        over = np.abs(velocity) > self._speed * _OVER
        if over.any():
            joint = int(np.argmax(over))
            self.trip(f'{Reason.LIMIT_VIOLATED.value}:joint {joint} at {velocity[joint]:.2f} rad/s')
            return zero
        if abs(command.gripper) > _OVER:
            self.trip(f'{Reason.LIMIT_VIOLATED.value}:gripper at {command.gripper:.2f} of its speed')
            return zero
        if command.mode == MOVE:
            if not abs(age_s) <= self.limits.command_age_s:
                self.trip(f'{Reason.STALE_COMMAND.value}:stamped {age_s * 1e3:.0f} ms ago')
            self.check(clock_ns)
        self._last_command = (clock_ns, command.mode)
        if self.stopped or command.mode != MOVE:
            return zero
        return self._slowed(command, velocity)

    def _slowed(self, command: JointCommand, velocity: np.ndarray) -> JointCommand:
        """All joints by the same factor, so that the arm goes where it would have gone."""
        if self.speed_scale == 1.0:
            return command
        factor = min(1.0, *(self.limits.joint_velocity_rad_s / np.maximum(np.abs(velocity), 1e-9)))
        gripper = float(np.clip(command.gripper, -self.speed_scale, self.speed_scale))
        return JointCommand(command.stamp, command.mode, velocity * factor, gripper)

    def check(self, clock_ns: int) -> None:
        """Trips on a stale command or sensor while motion is under way; call it often."""
        if not self.moving:
            return
        since = (clock_ns - self._last_command[0]) * 1e-9
        if since > max(self.limits.command_age_s, self._least_age_s):
            self.trip(f'{Reason.STALE_COMMAND.value}:{since * 1e3:.0f} ms')
        for stream in self.WATCHED:
            age = (clock_ns - self._seen.get(stream, 0)) * 1e-9
            if age > max(self.limits.sensor_age_s[stream], self._least_age_s):
                self.trip(f'{Reason.STALE_SENSOR.value}:{stream}')

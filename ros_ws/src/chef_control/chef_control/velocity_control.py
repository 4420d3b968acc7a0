# SPDX-License-Identifier: Apache-2.0
"""The 20 Hz task-space velocity controller: 5-D command to joint velocities.

Two steps, as in the public benchmark (google-deepmind/dm_robotics, Cartesian 4-D and 6-D velocity
effectors): the command becomes a 6-D velocity of the TCP that also holds the tool facing down; a
hierarchical quadratic program finds the joint velocities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import daqp
import numpy as np

from chef_control.kinematics import Kinematics
from chef_task import spaces
from chef_task.limits import Limits


@dataclass(frozen=True)
class ControllerConfig:
    """Gains, all of the benchmark. home_rad: [7] rad, posture that the nullspace drifts to."""

    home_rad: tuple[float, ...]
    gripper: str = 'bang_bang'
    orientation_gain: float = 0.8      # 1/s, of the tool's tilt
    regularisation: float = 1e-2       # weight of the squared joint velocities
    nullspace_gain: float = 0.025      # share of the way to home_rad per control period
    nullspace_slack: float = 1e-4      # m/s and rad/s, by which the nullspace motion may change the tool's


def _scaled(v: np.ndarray, limit: float) -> np.ndarray:
    norm = math.hypot(*v)
    return v if norm <= limit else v * (limit / norm)


def _box(centre, size) -> tuple[np.ndarray, np.ndarray]:
    return np.array(centre) - np.array(size) / 2, np.array(centre) + np.array(size) / 2


class VelocityController:
    """Stateless but for its parameters: every call stands by itself. What it always needs is computed once."""

    def __init__(self, kinematics: Kinematics, limits: Limits, config: ControllerConfig):
        self._kin = kinematics
        self._limits = limits
        self._config = config
        self._home = np.asarray(config.home_rad)
        lower, upper = kinematics.joint_limits
        self._lower, self._upper = lower + limits.joint_margin_rad, upper - limits.joint_margin_rad
        self._speed = np.asarray(limits.joint_velocity_rad_s)
        self._boxes = {'reset': _box(limits.reset_centre_m, limits.reset_size_m),
                       'episode': _box(limits.workspace_centre_m, limits.workspace_size_m)}
        n = self._home.size
        self._identity, self._no_rows = np.eye(n), np.zeros((0, n))
        self._damping = config.regularisation * np.eye(n)
        # of the last joint's turn and the tool's about the base's z; the Sawyer's last axis points down, as most do
        self._wrist_sign = 1.0 if kinematics.jacobian(self._home, 'tcp')[5, -1] > 0.5 else -1.0

    def tool_velocity(self, action, q, source: str = 'episode') -> np.ndarray:
        """The wanted 6-D velocity of the TCP, base axes, m/s and rad/s.

        An axis that would leave the workspace box is zeroed, as is wrist rotation out of its range.

        Args:
          action: [5] in [-1, 1]. q: [7] joint positions, rad.
          source: 'episode', or 'reset', whose box is larger.
        """
        limits = self._limits
        linear = np.asarray(action[:3], float) * spaces.LINEAR_SPEED_M_S
        pinch, _ = self._kin.pose(q, 'pinch')
        low, high = self._boxes['reset' if source == 'reset' else 'episode']
        linear[(pinch > high) & (linear > 0) | (pinch < low) & (linear < 0)] = 0.0
        turn = float(action[3]) * spaces.WRIST_SPEED_RAD_S
        wrist = self._wrist_sign * (q[-1] - limits.wrist_neutral_rad)
        if (wrist > limits.wrist_range_rad and turn > 0) or (wrist < -limits.wrist_range_rad and turn < 0):
            turn = 0.0
        angular = self._levelling(q)
        angular[2] += turn
        return np.concatenate([_scaled(linear, spaces.LINEAR_SPEED_M_S),
                               _scaled(angular, spaces.WRIST_SPEED_RAD_S)])

    def _levelling(self, q) -> np.ndarray:
        """Angular velocity [3] that turns the tool's axis down, about horizontal axes only."""
        _, rotation = self._kin.pose(q, 'tcp')
        x, y, z = rotation[:, 2].tolist()       # the tool's axis; its cross product with down is (-y, x, 0)
        sine = math.hypot(x, y)
        if sine < 1e-9:
            return np.zeros(3)
        factor = math.atan2(sine, -z) / sine * self._config.orientation_gain
        return np.array([-y * factor, x * factor, 0.0])

    def joint_bounds(self, q) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper joint velocities [7], rad/s, from the velocity and position limits."""
        room, speed = self._limits.joint_velocity_scale / (spaces.CONTROL_PERIOD_NS * 1e-9), self._speed
        upper = np.minimum(np.maximum(room * (self._upper - q), -speed), speed)
        lower = np.minimum(np.maximum(room * (self._lower - q), -speed), speed)
        return lower, np.maximum(upper, lower)

    def joint_velocity(self, action, q, source: str = 'episode') -> np.ndarray:
        """Joint velocities [7], rad/s, for one control period.

        First the least-squares fit of the tool's velocity within the joints' bounds; then, without
        changing what the tool does, as near as possible to the drift towards the home posture.

        Raises:
          ValueError: an argument has a wrong shape or is not finite.
        """
        action = spaces.check_action(action)
        q = np.asarray(q, float)
        if q.shape != self._home.shape or not np.all(np.isfinite(q)):
            raise ValueError(f'joint positions are not {self._home.size} finite numbers: {q}')
        goal = self.tool_velocity(action, q, source)
        jacobian = self._kin.jacobian(q, 'tcp')
        lower, upper = self.joint_bounds(q)
        first = _solve(jacobian.T @ jacobian + self._damping, -jacobian.T @ goal, self._no_rows, upper, lower)
        if first is None:
            return np.zeros(q.size)
        drift = self._config.nullspace_gain * spaces.CONTROL_HZ * (self._home - q)
        achieved = jacobian @ first
        slack = self._config.nullspace_slack
        second = _solve(self._identity, -drift, jacobian, np.concatenate([upper, achieved + slack]),
                        np.concatenate([lower, achieved - slack]))
        return first if second is None else second

    def gripper_velocity(self, action) -> float:
        """Gripper velocity in [-1, 1] of full speed, positive closes."""
        value = float(action[4])
        return float(np.sign(value)) if self._config.gripper == 'bang_bang' else value


class Arbiter:
    """One commander at a time: who moves the arm keeps it until a hold, or until falling silent."""

    def __init__(self, silence_s: float):
        self._silence_s = silence_s
        self._owner, self._at = '', 0.0

    def admits(self, source: str, move: bool, now_s: float) -> bool:
        """Whether a command of `source` may pass; a hold of anybody's always does."""
        if self._owner not in ('', source) and now_s - self._at <= self._silence_s and move:
            return False
        if move or source == self._owner:
            self._owner, self._at = (source if move else ''), now_s
        return True


def _solve(hessian, linear, constraints, upper, lower) -> np.ndarray | None:
    """argmin x'Hx/2 + f'x with bounds on x (first) and on the rows of `constraints`; None if infeasible."""
    sense = np.zeros(upper.size, dtype=np.int32)
    x, _, exitflag, _ = daqp.solve(np.ascontiguousarray(hessian), np.ascontiguousarray(linear),
                                   np.ascontiguousarray(constraints), np.ascontiguousarray(upper),
                                   np.ascontiguousarray(lower), sense)
    return np.asarray(x) if exitflag > 0 and np.all(np.isfinite(x)) else None

# SPDX-License-Identifier: Apache-2.0
"""From a force/torque sensor's raw readings to the wrench that touching exerts: tool's weight, bias, low-pass. No ROS.

All in the sensor's frame. The convention of signs is that of the simulated cell: what the arm does to the tool, so that
the weight of a tool that hangs on the sensor shows as a force that points up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chef_task.errors import OneLineError
from chef_task.geometry import quat_conjugate, rotate

GRAVITY_M_S2 = 9.81
FACING_DOWN = (0.0, 1.0, 0.0, 0.0)  # orientation of a tool whose z axis points down, w x y z
_SPREAD_DEG = 20.0                  # of orientations, below which the centre of mass is a guess


class WrenchError(OneLineError):
    """Readings from which bias or tool cannot be told; one line."""


@dataclass(frozen=True)
class Tool:
    """What hangs on the sensor. mass_kg. com_m: its centre of mass in the sensor's frame, m, [3]."""

    mass_kg: float = 0.0
    com_m: tuple[float, ...] = (0.0, 0.0, 0.0)

    def weight(self, orientation: Sequence[float]) -> np.ndarray:
        """Force [3] N and torque [3] N m with which the arm holds the tool's weight, as [6].

        orientation: of the sensor in the base's frame, whose z points up, as a quaternion w x y z.
        """
        force = _up([orientation])[0] * self.mass_kg
        return np.concatenate([force, np.cross(self.com_m, force)])


def _up(orientations) -> np.ndarray:
    """The reaction to gravity in the frames of orientations [N, 4] (w x y z), m/s2, [N, 3]."""
    q = np.asarray(orientations, float)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    return rotate(quat_conjugate(q), np.broadcast_to([0.0, 0.0, GRAVITY_M_S2], (len(q), 3)))


@dataclass(frozen=True)
class Identified:
    """tool; bias: [6], N and N m; residual_n, residual_nm: root mean square of what they do not explain."""

    tool: Tool
    bias: tuple[float, ...]
    residual_n: float
    residual_nm: float


def identify(wrenches, orientations) -> Identified:
    """The tool and the sensor's bias from readings at rest, touching nothing, by least squares.

    With g_i the reaction to gravity in the sensor's frame: force_i = b_f + m g_i and torque_i = b_t + (m c) x g_i, which are
    linear in m, m c and the biases.

    Args:
      wrenches: [N, 6], raw readings, N and N m.
      orientations: [N, 4] of the sensor in the base's frame, w x y z.

    Raises:
      WrenchError: too few or too similar orientations, or a negative mass, which is a wrong sign of the readings.
    """
    wrenches, g = np.asarray(wrenches, float), _up(orientations)
    n = len(wrenches)
    if n < 4 or wrenches.shape != (n, 6) or len(g) != n or not np.isfinite(wrenches).all():
        raise WrenchError(f'at least 4 finite readings [N, 6] with their orientations are needed, not {wrenches.shape}')
    # The smallest eigenvalue but one of gravity's spread over the readings: two axes must have been tilted.
    spread = np.sqrt(max(0.0, np.linalg.eigvalsh(np.cov(g.T))[1])) / GRAVITY_M_S2
    if spread < np.sin(np.deg2rad(_SPREAD_DEG)) / 2:
        raise WrenchError('the orientations are too much alike: tilt the tool by 30 degrees and more about two axes')
    eye = np.tile(np.eye(3), (n, 1))
    force, *_ = np.linalg.lstsq(np.hstack([g.reshape(-1, 1), eye]), wrenches[:, :3].reshape(-1), rcond=None)
    mass = force[0]
    if mass <= 0:
        raise WrenchError(f'the readings say that the tool weighs {mass:.2f} kg: set the sensor\'s sign to the opposite')
    # (m c) x g = -[g]x (m c)
    x, y, z = g.T
    zero = np.zeros(n)
    cross = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=1).reshape(n * 3, 3)
    torque, *_ = np.linalg.lstsq(np.hstack([cross, eye]), wrenches[:, 3:].reshape(-1), rcond=None)
    tool = Tool(float(mass), tuple(float(v) for v in torque[:3] / mass))
    bias = np.concatenate([force[1:], torque[3:]])
    rest = wrenches - bias - np.stack([tool.weight(q) for q in np.asarray(orientations, float)])
    rms = [float(np.sqrt(np.mean(np.sum(part ** 2, axis=1)))) for part in (rest[:, :3], rest[:, 3:])]
    return Identified(tool, tuple(bias.tolist()), *rms)


class Processor:
    """Takes weight and bias off readings and smooths them.

    Args:
      tool: what hangs on the sensor.
      rate_hz: of the readings.
      filter_hz: cut-off of a Butterworth low-pass of second order; 0 for none.
    """

    def __init__(self, tool: Tool, rate_hz: float, filter_hz: float = 0.0):
        self.tool = tool
        self.bias = np.zeros(6)
        self._weight = tool.weight(FACING_DOWN)
        self._signal = self._sos = None
        if filter_hz:
            import scipy.signal     # a second of imports, for those who want a filter

            self._signal = scipy.signal
            self._sos = scipy.signal.butter(2, filter_hz, fs=rate_hz, output='sos')
        self._state: np.ndarray | None = None

    def orient(self, orientation: Sequence[float]) -> None:
        """Tells the sensor's orientation, w x y z; facing down until told."""
        self._weight = self.tool.weight(orientation)

    def tare(self, readings, spread_n: float) -> None:
        """Sets the bias to what readings [N, 6] have beside the weight; WrenchError if they are not at rest."""
        readings = np.asarray(readings, float)
        spread = float(np.linalg.norm(readings[:, :3].std(axis=0)))
        if spread > spread_n:
            raise WrenchError(f'it cannot be tared: the force varies by {spread:.2f} N, more than {spread_n:g} N; '
                              'is it touched or moving?')
        self.bias = readings.mean(axis=0) - self._weight
        self._state = None

    def __call__(self, reading) -> np.ndarray:
        """The wrench [6] of touching, from a raw reading [6]; readings in the order of time."""
        wrench = np.asarray(reading, float) - self._weight - self.bias
        if self._sos is None:
            return wrench
        if self._state is None:     # as if it had been so for ever: no transient at the start
            self._state = self._signal.sosfilt_zi(self._sos)[:, None, :] * wrench[None, :, None]
        out, self._state = self._signal.sosfilt(self._sos, wrench[:, None], axis=1, zi=self._state)
        return out[:, 0]

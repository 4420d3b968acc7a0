# SPDX-License-Identifier: Apache-2.0
"""Kinematics of an arm from its URDF, by pinocchio."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pinocchio

from chef_task.geometry import from_matrix

# Of q and -q, the same rotation, always the one on this one's side: the same as in the simulated cell, as long as the
# tool faces down.
_DOWN = np.array([0.0, -math.sqrt(0.5), math.sqrt(0.5), 0.0])


def facing_down(quaternion) -> np.ndarray:
    """The quaternion w x y z, [4], or its negative: what the simulated cell would tell."""
    q = np.asarray(quaternion, float)
    return -q if q @ _DOWN < 0 else q


class Kinematics:
    """Forward kinematics and Jacobian of the frames `tcp` and `pinch` of an arm.

    Frames at the same joint positions are computed once; so one thread at a time may use it.

    Raises ValueError for a URDF that cannot be read or that lacks a joint or a frame.
    """

    def __init__(self, urdf: str | Path, joints: tuple[str, ...]):
        try:
            self._model = pinocchio.buildModelFromUrdf(str(urdf))
        except (ValueError, RuntimeError) as e:
            raise ValueError(f'{urdf}: not a URDF: {str(e).splitlines()[0]}') from None
        missing = [j for j in joints if not self._model.existJointName(j)]
        missing += [f for f in ('tcp', 'pinch') if not self._model.existFrame(f, pinocchio.FrameType.BODY)]
        if missing:
            raise ValueError(f'{urdf}: has no joint or frame {missing[0]!r}')
        if self._model.nq != len(joints):
            raise ValueError(f'{urdf}: has {self._model.nq} movable joints, expected {len(joints)}')
        self._data = self._model.createData()
        self._order = np.array([self._model.joints[self._model.getJointId(j)].idx_q for j in joints])
        self._frames = {f: self._model.getFrameId(f, pinocchio.FrameType.BODY) for f in ('tcp', 'pinch')}
        self._at = b''      # joint positions that the data are of

    @property
    def joint_limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper joint positions, rad, [n] each."""
        return self._model.lowerPositionLimit[self._order], self._model.upperPositionLimit[self._order]

    @property
    def speed_limits(self) -> np.ndarray:
        """Highest joint velocities, rad/s, [n]; 0 where the URDF gives none."""
        return self._model.velocityLimit[self._order]

    def _move_to(self, q) -> None:
        full = np.zeros(self._model.nq)
        full[self._order] = q
        if (at := full.tobytes()) != self._at:
            pinocchio.computeJointJacobians(self._model, self._data, full)
            pinocchio.updateFramePlacements(self._model, self._data)
            self._at = at

    def pose(self, q, frame: str = 'tcp') -> tuple[np.ndarray, np.ndarray]:
        """Position [3], m, and rotation matrix [3, 3] of a frame in the base frame at joint positions q."""
        self._move_to(q)
        placement = self._data.oMf[self._frames[frame]]
        return placement.translation.copy(), placement.rotation.copy()

    def jacobian(self, q, frame: str = 'tcp') -> np.ndarray:
        """[6, n]: joint velocities to linear (m/s) and angular (rad/s) velocity of the frame, base axes."""
        self._move_to(q)
        jacobian = pinocchio.getFrameJacobian(self._model, self._data, self._frames[frame],
                                              pinocchio.LOCAL_WORLD_ALIGNED)
        return jacobian[:, self._order]

    def tcp_sample(self, joints: dict) -> dict:
        """The sample of stream 'tcp' that belongs to one of stream 'joints': pose and twist of frame `tcp`."""
        position, rotation = self.pose(joints['position'])
        twist = self.jacobian(joints['position']) @ np.asarray(joints['velocity'], float)
        return {'stream': 'tcp', 'stamp': joints['stamp'],
                'pose': position.tolist() + facing_down(from_matrix(rotation)).tolist(), 'twist': twist.tolist()}

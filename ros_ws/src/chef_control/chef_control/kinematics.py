# SPDX-License-Identifier: Apache-2.0
"""Kinematics of an arm from its URDF, by pinocchio."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pinocchio

from chef_task.cell import Mount
from chef_task.geometry import compose, from_matrix, inverse, relative
from chef_task.observation import PINCH_FROM_TCP

_FRAMES_M, _FRAMES_RAD = 0.002, 0.02    # by which the URDF's pinch may be off its tcp's
# Of q and -q, the same rotation, always the one on this one's side: the same as in the simulated cell, as long as the
# tool faces down.
_DOWN = np.array([0.0, -math.sqrt(0.5), math.sqrt(0.5), 0.0])


def facing_down(quaternion) -> np.ndarray:
    """The quaternion w x y z, [4], or its negative: what the simulated cell would tell."""
    q = np.asarray(quaternion, float)
    return -q if q @ _DOWN < 0 else q


class Kinematics:
    """Forward kinematics and Jacobian of the frames `tcp` and `pinch` of an arm.

    Joints of the URDF that are not named, such as a gripper's fingers, stay at 0. Frames at the same joint positions are
    computed once; so one thread at a time may use it.

    Args:
      joints: their names, in the order of all arrays.
      pinch: where the pinch is, if the URDF does not say it by links `tcp` and `pinch`; the tcp is then where it must be
        for the relation between the two, `chef_task.observation.PINCH_FROM_TCP`, that all that reads a tcp pose knows.

    Raises ValueError for a URDF that cannot be read, lacks a joint or a frame, or has them in another relation.
    """

    def __init__(self, urdf: str | Path, joints: tuple[str, ...], pinch: Mount | None = None):
        try:
            model = pinocchio.buildModelFromUrdf(str(urdf))
        except (ValueError, RuntimeError) as e:
            raise ValueError(f'{urdf}: not a URDF: {str(e).splitlines()[0]}') from None
        links = ('tcp', 'pinch') if pinch is None else (pinch.link,)
        missing = [j for j in joints if not model.existJointName(j)]
        missing += [f for f in links if not model.existFrame(f, pinocchio.FrameType.BODY)]
        if missing:
            raise ValueError(f'{urdf}: has no joint or frame {missing[0]!r}')
        for joint in joints:
            if model.joints[model.getJointId(joint)].nq != 1:
                raise ValueError(f'{urdf}: joint {joint!r} turns without end: give it limits, as a revolute joint')
        self._model, self._rest = model, pinocchio.neutral(model)
        named = [model.joints[model.getJointId(j)] for j in joints]
        self._order, self._columns = np.array([j.idx_q for j in named]), np.array([j.idx_v for j in named])
        self._frames = {f: model.getFrameId(f, pinocchio.FrameType.BODY) for f in links}
        if pinch is not None:
            link = self._frames.pop(pinch.link)
            self._frames = {f: self._add(f, link, pose) for f, pose in
                            (('pinch', pinch.pose), ('tcp', compose(pinch.pose, inverse(PINCH_FROM_TCP))))}
        self._data = model.createData()
        self._at = b''      # joint positions that the data are of
        moving = {model.names[i] for f in self._frames.values() for i in model.supports[model.frames[f].parentJoint]}
        if unnamed := sorted(moving - {'universe', *joints}):
            raise ValueError(f'{urdf}: joint {unnamed[0]!r} moves the tool and is not among the arm\'s {len(joints)}')
        self._check(urdf)

    def _add(self, name: str, link: int, pose) -> int:
        """A frame at a pose [7] in that of a link."""
        link = self._model.frames[link]
        turn = np.array([pose[4], pose[5], pose[6], pose[3]], float)     # x y z w
        placement = link.placement * pinocchio.XYZQUATToSE3(np.concatenate([pose[:3], turn / np.linalg.norm(turn)]))
        frame = pinocchio.Frame(f'chef_{name}', link.parentJoint, placement, pinocchio.FrameType.OP_FRAME)
        return self._model.addFrame(frame)

    def _check(self, urdf) -> None:
        q = np.zeros(self._order.size)
        (at, turn), (to, turned) = self.pose(q, 'tcp'), self.pose(q, 'pinch')
        off = relative(np.concatenate([to, from_matrix(turned)]), np.concatenate([at, from_matrix(turn)]))
        distance = math.dist(off[:3], PINCH_FROM_TCP[:3])
        angle = 2 * math.acos(min(1.0, abs(float(off[3:] @ PINCH_FROM_TCP[3:]))))
        if distance > _FRAMES_M or angle > _FRAMES_RAD:
            raise ValueError(f'{urdf}: frame pinch is {distance * 1e3:.0f} mm and {angle:.2f} rad from where tcp has it: '
                             'name the pinch alone, by a link and a pose in the cell\'s file')

    @property
    def joint_limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper joint positions, rad, [n] each."""
        return self._model.lowerPositionLimit[self._order], self._model.upperPositionLimit[self._order]

    @property
    def speed_limits(self) -> np.ndarray:
        """Highest joint velocities, rad/s, [n]; 0 where the URDF gives none."""
        return self._model.velocityLimit[self._columns]

    def _move_to(self, q) -> None:
        full = self._rest.copy()
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
        return jacobian[:, self._columns]

    def tcp_sample(self, joints: dict) -> dict:
        """The sample of stream 'tcp' that belongs to one of stream 'joints': pose and twist of frame `tcp`."""
        position, rotation = self.pose(joints['position'])
        twist = self.jacobian(joints['position']) @ np.asarray(joints['velocity'], float)
        return {'stream': 'tcp', 'stamp': joints['stamp'],
                'pose': position.tolist() + facing_down(from_matrix(rotation)).tolist(), 'twist': twist.tolist()}

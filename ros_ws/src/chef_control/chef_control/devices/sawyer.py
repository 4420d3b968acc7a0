# SPDX-License-Identifier: Apache-2.0
"""Device `sawyer`: Rethink's Sawyer over its ROS 1 topics, in joint velocity mode. docs/arms.md.

The robot is spoken to by a process of ROS 1's own Python (`chef_control.sawyer_ros1`), a child of this one, over a
socket that nobody else has.
"""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass

import numpy as np

from chef_control import ros1
from chef_control.devices.bridged_arm import BridgedArm
from chef_control.devices.device import DeviceError, OnBatch, OnLost
from chef_control.kinematics import Kinematics, facing_down
from chef_task.cell import Mount
from chef_task.geometry import IDENTITY_POSE, compose, cross, from_matrix, rotate
from chef_task.settings import option
from chef_task.spaces import JOINTS


@dataclass(frozen=True)
class SawyerSettings:
    """Settings of devices.arm with `driver: sawyer`."""

    urdf: str = option('', 'path of the arm\'s URDF; from the cell')
    joints: tuple[str, ...] = option(JOINTS, 'names of the arm\'s joints; from the cell')
    pinch: Mount = Mount()
    master_uri: str = option('http://localhost:11311', 'ROS_MASTER_URI of the robot')
    address: str = option('', 'of this machine in the robot\'s network (ROS_IP); empty: left to ROS')
    limb: str = option('right', 'name of the limb')
    python: str = option('/usr/bin/python3', 'ROS 1\'s Python')
    python_path: tuple[str, ...] = option((), 'folders in which that finds intera_core_msgs')
    enable: bool = option(True, 'enable the robot at the start, if it is disabled')
    disable_at_end: bool = option(False, 'disable it at the end: it then hangs in its brakes')
    stamps: str = option('arrival', 'of samples: when they arrive here, or by the robot\'s own clock',
                         choices=('arrival', 'robot'))
    tcp: str = option('endpoint', 'the tool\'s pose and velocity: as the robot tells them, or from joints and URDF',
                      choices=('endpoint', 'urdf'))
    tcp_in_endpoint: tuple[float, ...] = option(tuple(IDENTITY_POSE.tolist()),
                                                'pose of frame tcp in the robot\'s endpoint, m and quaternion w x y z')
    tcp_tolerance_m: float = option(0.005, 'm, largest distance at the start of the told from the URDF\'s tcp', above=0.0)
    tcp_tolerance_rad: float = option(0.05, 'rad, the same', above=0.0)
    start_deadline_s: float = option(10.0, 's, for each step of the start', above=0.0)

    def __post_init__(self):
        if len(self.tcp_in_endpoint) != 7 or abs(math.hypot(*self.tcp_in_endpoint[3:]) - 1.0) > 1e-3:
            raise ValueError(f'tcp_in_endpoint must be x y z and a unit quaternion w x y z, not {self.tcp_in_endpoint}')


class Sawyer(BridgedArm):
    """The arm, from when it is ready to move. Samples: 'joints' at the robot's rate, 'tcp' with each of its endpoint's.

    Should both processes be gone, the robot's own watchdog, which is told 100 ms, stops it.

    Raises:
      DeviceError: the robot, its master or ROS 1 is not there, the robot cannot move, or its endpoint is elsewhere
        than the URDF's tcp.
    """

    Settings = SawyerSettings

    def __init__(self, settings: SawyerSettings, on_batch: OnBatch, on_lost: OnLost):
        self._settings = settings
        self._offset = np.array(settings.tcp_in_endpoint)
        self._joints: dict | None = None
        self._told = False      # the tool's pose
        try:
            self._kinematics = Kinematics(settings.urdf, settings.joints,
                                          settings.pinch if settings.pinch.link else None)
        except ValueError as e:
            raise DeviceError(f'arm sawyer: {e}') from None
        super().__init__(on_batch, on_lost, where=f'arm sawyer at {settings.master_uri}', process='its ROS 1 process',
                         deadline_s=settings.start_deadline_s, close_s=5.0 * settings.disable_at_end)

    def start_process(self, fd: int) -> subprocess.Popen:
        s = self._settings
        arguments = ['--fd', str(fd), '--uri', s.master_uri, '--limb', s.limb, '--joints', ','.join(s.joints),
                     '--stamps', s.stamps, '--deadline-s', str(s.start_deadline_s)]
        arguments += ['--enable'] * s.enable + ['--disable-at-end'] * s.disable_at_end
        return ros1.start('chef_control.sawyer_ros1.main', arguments, python=s.python, python_path=s.python_path,
                          master_uri=s.master_uri, address=s.address, fds=(fd,))

    def ready(self) -> bool:
        return self._told

    def nothing_came(self) -> str:
        return 'the robot tells no valid endpoint_state'

    def accept(self, sample: dict) -> list[dict]:
        if sample['stream'] == 'joints':
            self._joints = sample
            if self._settings.tcp != 'urdf':
                return [sample]
            self._told = True
            return [sample, self._kinematics.tcp_sample(sample)]
        if sample['stream'] != 'tcp' or self._settings.tcp != 'endpoint':
            return []
        tcp = self._tool(sample)
        if not self._told and self._joints is not None:
            self._check(tcp)
            self._told = True
        return [tcp]

    def _tool(self, sample: dict) -> dict:
        """The tcp's sample from the endpoint's."""
        pose, twist = np.asarray(sample['pose'], float), np.asarray(sample['twist'], float)
        arm = rotate(pose[3:], self._offset[:3])
        tool = compose(pose, self._offset)
        tool[3:] = facing_down(tool[3:])
        return {'stream': 'tcp', 'stamp': sample['stamp'], 'pose': tool.tolist(),
                'twist': (twist[:3] + cross(twist[3:], arm)).tolist() + twist[3:].tolist()}

    def _check(self, tcp: dict) -> None:
        """ValueError if the robot has its tool elsewhere than the URDF."""
        position, rotation = self._kinematics.pose(self._joints['position'])
        distance = math.dist(position, tcp['pose'][:3])
        turn = 2 * math.acos(min(1.0, abs(float(np.dot(from_matrix(rotation), tcp['pose'][3:])))))
        s = self._settings
        if not (distance <= s.tcp_tolerance_m and turn <= s.tcp_tolerance_rad):
            raise ValueError(f'its endpoint is {distance * 1e3:.1f} mm and {turn:.3f} rad from the tcp of {s.urdf}: '
                             'set tcp_in_endpoint, correct the URDF, or choose tcp: urdf')

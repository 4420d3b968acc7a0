# SPDX-License-Identifier: Apache-2.0
"""Device `sawyer`: Rethink's Sawyer over its ROS 1 topics, in joint velocity mode. docs/arms.md.

The robot is spoken to by a process of ROS 1's own Python (`chef_control.sawyer_ros1`), a child of this one, over a
socket that nobody else has.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

import numpy as np

from chef_control import ros1
from chef_control.devices.device import DeviceError, OnBatch, OnLost
from chef_control.kinematics import Kinematics, facing_down
from chef_control.sawyer_ros1.wire import GONE, HEARTBEAT_S, LOST_S, MAX_AGE_NS, SILENCE_S, Link, WireError
from chef_task.geometry import IDENTITY_POSE, compose, cross, from_matrix, rotate
from chef_task.settings import option
from chef_task.spaces import JOINTS

_LOAD_S = 20.0      # for ROS 1's Python to load, at most
_CLOSE_S = 2.0      # for the bridge to stop the robot and end


@dataclass(frozen=True)
class SawyerSettings:
    """Settings of devices.arm with `driver: sawyer`."""

    urdf: str = option('', 'path of the arm\'s URDF; from the cell')
    joints: tuple[str, ...] = option(JOINTS, 'names of the arm\'s joints; from the cell')
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


class Sawyer:
    """The arm, from when it is ready to move. Samples: 'joints' at the robot's rate, 'tcp' with each of its endpoint's.

    It stops within 100 ms of the last command, or of the last sign of life of either side; the robot itself does the
    same should both be gone.

    Raises:
      DeviceError: the robot, its master or ROS 1 is not there, the robot cannot move, or its endpoint is elsewhere
        than the URDF's tcp.
    """

    Settings = SawyerSettings

    def __init__(self, settings: SawyerSettings, on_batch: OnBatch, on_lost: OnLost):
        self._settings, self._on_batch, self._on_lost = settings, on_batch, on_lost
        self._offset = np.array(settings.tcp_in_endpoint)
        self._closing = threading.Event()
        self._checked = threading.Event()
        self._fault = ''
        self._heard_s = 0.0
        self._joints: dict | None = None
        self.late = 0       # commands that were too old to be obeyed
        try:
            self._kinematics = Kinematics(settings.urdf, settings.joints)
        except ValueError as e:
            raise DeviceError(f'arm sawyer: {e}') from None
        self._start_bridge()
        self._thread = threading.Thread(target=self._run, name='sawyer', daemon=True)
        try:
            self._await_ready()
            self._thread.start()
            if not self._checked.wait(settings.start_deadline_s):
                self._fault = self._fault or 'the robot tells no valid endpoint_state'
            if self._fault:
                raise self._error(self._fault)
        except BaseException:
            self.close()
            raise

    def _error(self, text: str) -> DeviceError:
        return DeviceError(f'arm sawyer at {self._settings.master_uri}: {text}')

    def _start_bridge(self) -> None:
        s = self._settings
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = ['--fd', str(there.fileno()), '--uri', s.master_uri, '--limb', s.limb, '--joints', ','.join(s.joints),
                     '--stamps', s.stamps, '--deadline-s', str(s.start_deadline_s)]
        arguments += ['--enable'] * s.enable + ['--disable-at-end'] * s.disable_at_end
        try:
            self._process = ros1.start('chef_control.sawyer_ros1.bridge', arguments, python=s.python,
                                       python_path=s.python_path, master_uri=s.master_uri, address=s.address,
                                       fds=(there.fileno(),))
        except OSError as e:
            here.close()
            raise self._error(f'ROS 1\'s Python cannot be started: {s.python}: {e.strerror or e}') from None
        finally:
            there.close()
        self._link = Link(here)

    def _await_ready(self) -> None:
        # the bridge has deadlines of its own for master, topics and enabling; this one is for a bridge that hangs
        end = time.monotonic() + _LOAD_S + 3 * self._settings.start_deadline_s
        while (left := end - time.monotonic()) > 0:
            select.select([self._link], [], [], left)
            try:
                packet = self._link.receive()
            except WireError as e:
                raise self._error(f'its ROS 1 process ended at once: {e}') from None
            if packet is not None and packet['kind'] == 'error':
                raise self._error(packet['text'])
            if packet is not None and packet['kind'] == 'ready':
                self._heard_s = time.monotonic()
                return
        raise self._error('its ROS 1 process does not answer')

    def send(self, command: dict) -> None:
        """Passes velocities on; those that are late, or that nobody watches over, as zeros."""
        velocity = [float(v) for v in command['velocity']]
        late = abs(time.time_ns() - command['stamp']) > MAX_AGE_NS
        self.late += late
        if late or time.monotonic() - self._heard_s > SILENCE_S:
            velocity = [0.0] * len(velocity)
        try:
            self._link.send('command', velocity=velocity)
        except WireError as e:
            raise self._error(self._fault or f'its ROS 1 process: {e}') from None

    def _run(self) -> None:
        """The reader's thread: samples in, heartbeats out, until the link ends."""
        beat = time.monotonic()
        try:
            while not self._closing.is_set():
                now = time.monotonic()
                if now >= beat:
                    beat = now + HEARTBEAT_S
                    with contextlib.suppress(WireError):    # its last words are still to be read
                        self._link.send('heartbeat')
                select.select([self._link], [], [], max(0.0, beat - time.monotonic()))
                while (packet := self._link.receive()) is not None:
                    self._heard_s = time.monotonic()
                    if packet['kind'] == 'error':
                        raise WireError(packet['text'])
                    self._pass_on(packet.get('samples', []))
                silent = time.monotonic() - self._heard_s
                if silent > LOST_S:
                    raise WireError(f'its ROS 1 process has been silent for {silent:.1f} s')
        except (WireError, ValueError, OSError) as e:
            if self._closing.is_set():
                return
            text = str(e) if str(e) != GONE else 'its ROS 1 process has died'
            self._process.kill()    # one that only hung must not go on by itself
            self._fault = text
            if self._checked.is_set():
                self._on_lost(str(self._error(text)))
            self._checked.set()

    def _pass_on(self, samples: list[dict]) -> None:
        out = []
        for sample in samples:
            if sample['stream'] == 'joints':
                self._joints = sample
                out.append(sample)
                if self._settings.tcp == 'urdf':
                    out.append(self._kinematics.tcp_sample(sample))
                    self._checked.set()
            elif sample['stream'] == 'tcp' and self._settings.tcp == 'endpoint':
                tcp = self._tool(sample)
                if not self._checked.is_set() and self._joints is not None:
                    self._check(tcp)
                out.append(tcp)
        if out and self._checked.is_set():
            self._on_batch(out)

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
        self._checked.set()

    def close(self) -> None:
        """Stops the arm and ends the ROS 1 process; at most 2 s."""
        if self._closing.is_set():
            return
        self._closing.set()
        with contextlib.suppress(WireError):
            self._link.send('close')
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(1.0)
        try:
            self._process.wait(_CLOSE_S + 5.0 * self._settings.disable_at_end)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(1.0)
        self._link.close()

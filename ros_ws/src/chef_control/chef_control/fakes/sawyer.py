# SPDX-License-Identifier: Apache-2.0
"""A stand-in Sawyer on a ROS master of its own: the robot's real topics, the motion of a simulated body.

    python -m chef_control.fakes.sawyer --urdf config/robots/sawyer.urdf --folder DIR [--world SOCKET] [--port 11311]

Its body is the simulated world's arm, or, without a world, integrates its joint velocities.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from chef_control import ros1
from chef_control.arm_link.wire import Link, WireError
from chef_control.fakes import arm_body, intera_msgs
from chef_control.fakes.arm_body import Body
from chef_control.fakes.arm_plans import MASTER, PYTHON, free_port, missing
from chef_control.kinematics import Kinematics
from chef_sim.client import DeviceClient, DeviceError
from chef_sim.world import HOME
from chef_task.cell import Mount
from chef_task.spaces import JOINTS

_START_S = 60.0
_STEP_S = 0.01


class FakeSawyer:
    """Master and robot, from when the robot's topics are there. A context; leaves no process behind.

    Args:
      folder: for the message package and the logs.
      world: socket of a simulated world whose arm it is; '' for a body of its own.
      port: of the master; 0 for a free one.

    Raises:
      RuntimeError: ROS 1 is not complete here, or does not start. DeviceError: no such world.
    """

    def __init__(self, folder: str | Path, urdf: str | Path, joints=JOINTS, world: str = '', port: int = 0,
                 limb: str = 'right', pinch: Mount | None = None):
        if lacking := missing():
            raise RuntimeError(f'no stand-in Sawyer without {lacking}')
        self.uri = f'http://127.0.0.1:{port or free_port()}'
        self.python_path = str(intera_msgs.write(folder))
        self.motion: list[tuple[int, bool]] = []    # (ns of the system clock, whether the motors move) at each change
        self._kinematics = Kinematics(urdf, joints, pinch)
        self._folder, self._limb, self._joints = Path(folder), limb, joints
        self._velocity, self._ending = [0.0] * len(joints), threading.Event()
        self._told = threading.Event()
        self._processes: list[subprocess.Popen] = []
        self._client = None
        try:
            self.start_master()
            self._start_robot()
            if world:
                self._client = DeviceClient(world, 'fake_sawyer', ('joints',), on_batch=self._on_world)
        except BaseException:
            self.close()
            raise
        self._body = None if world else Body(self._kinematics.joint_limits, HOME)
        self._thread = threading.Thread(target=self._run, name='fake sawyer', daemon=True)
        self._thread.start()

    def start_master(self) -> None:
        """Starts the ROS master, anew after `master.kill()`."""
        env = ros1.environment(self.uri, '127.0.0.1') | {'ROS_LOG_DIR': str(self._folder), 'ROS_HOME': str(self._folder)}
        command = [PYTHON, '-I', MASTER, '--core', '-p', self.uri.rsplit(':', 1)[1]]
        self.master = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._processes.append(self.master)
        address = ('127.0.0.1', int(self.uri.rsplit(':', 1)[1]))
        end = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(address, 1.0):
                return
            if self.master.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f'the ROS master does not start at {self.uri}')
            time.sleep(0.02)

    def _start_robot(self) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = ['--fd', str(there.fileno()), '--limb', self._limb, '--joints', ','.join(self._joints)]
        self.robot = ros1.start('chef_control.fakes.sawyer_robot', arguments, python=PYTHON,
                                python_path=(self.python_path,), master_uri=self.uri, address='127.0.0.1',
                                fds=(there.fileno(),))
        there.close()
        self._processes.append(self.robot)
        self._link = Link(here)
        if not select.select([self._link], [], [], _START_S)[0] or self._link.receive()['kind'] != 'ready':
            raise RuntimeError('the stand-in robot does not start')

    def tell(self, **state) -> None:
        """Changes the robot's state: fields of RobotAssemblyState, `mute`, `patient`; see `sawyer_robot`."""
        self._told.clear()
        self._link.send('samples', samples=[{'stream': 'state', **state}])
        if not self._told.wait(_START_S):
            raise RuntimeError('the stand-in robot does not take its state')

    def emergency_stop(self) -> None:
        """Somebody presses the red button."""
        self.tell(stopped=True, estop_button=1, estop_source=1)

    def _show(self, joints: dict) -> None:
        self._link.send('samples', samples=[joints, self._kinematics.tcp_sample(joints)])

    def _on_world(self, samples: list[dict]) -> None:
        with contextlib.suppress(WireError):
            self._show(samples[-1])

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._ending.is_set():
                select.select([self._link], [], [], max(0.0, due - time.monotonic()))
                while (packet := self._link.receive()) is not None:
                    if packet['kind'] == 'command':
                        self._follow(packet['velocity'])
                    elif packet['kind'] == 'ready':
                        self._told.set()
                if time.monotonic() >= due:
                    due += _STEP_S
                    if self._body is not None:
                        self._show(self._body.advance(self._velocity, _STEP_S))
        except (WireError, DeviceError, OSError, ValueError):
            self._ending.set()      # the robot's half or the world has gone

    def _follow(self, velocity) -> None:
        self._velocity = velocity
        moving = any(velocity)
        if not self.motion or self.motion[-1][1] != moving:
            self.motion.append((time.time_ns(), moving))
        if self._client is not None:
            self._client.send({'command': 'arm', 'stamp': time.time_ns(), 'velocity': velocity})

    @property
    def alive(self) -> bool:
        """Whether master, robot and body all still run."""
        return not self._ending.is_set() and all(p.poll() is None for p in self._processes)

    def close(self) -> None:
        """Ends all its processes."""
        self._ending.set()
        if hasattr(self, '_thread'):
            self._thread.join(2.0)
        if self._client is not None:
            self._client.close()
        for process in self._processes:
            process.kill()
            process.wait(5.0)
        if hasattr(self, '_link'):
            self._link.close()

    def __enter__(self) -> FakeSawyer:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def main(argv: list[str] | None = None) -> None:
    """Runs a stand-in Sawyer until it is interrupted."""
    parser = argparse.ArgumentParser(prog='python -m chef_control.fakes.sawyer', description=main.__doc__)
    arm_body.add_arguments(parser)
    parser.add_argument('--folder', required=True, help='for the message package and the logs')
    parser.add_argument('--world', default='', help="the simulated world's socket; a body of its own without")
    parser.add_argument('--port', type=int, default=11311, help='of the ROS master')
    args = parser.parse_args(argv)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        robot = FakeSawyer(args.folder, args.urdf, tuple(args.joints.split(',')), args.world, args.port,
                           pinch=arm_body.pinch(args))
    except (RuntimeError, DeviceError, ValueError) as e:
        print(f'fake sawyer: {e}', file=sys.stderr)
        sys.exit(1)
    with robot:
        signal.signal(signal.SIGUSR1, lambda *_: robot.emergency_stop())    # for tests
        print(f'a stand-in Sawyer at {robot.uri}; python_path: {robot.python_path}', flush=True)
        while not ended.wait(0.2):
            if not robot.alive:
                print('fake sawyer: a part of it has died', file=sys.stderr, flush=True)
                sys.exit(1)
    os._exit(0)


if __name__ == '__main__':
    main()

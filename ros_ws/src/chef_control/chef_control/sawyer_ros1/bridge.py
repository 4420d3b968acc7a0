# SPDX-License-Identifier: Apache-2.0
"""The process between the arm's driver and a Sawyer: `main` is started by `chef_control.devices.sawyer`."""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import time

from .arm import Arm
from .wire import HEARTBEAT_S, Link, WireError, velocity_of

_PERIOD_S = 0.01    # of the commands to the robot


class Bridge:
    """Between a link and a robot, both already there. Ends by `run`'s return; then the robot has been stopped.

    robot: `move(velocity)`, `fault() -> str`; see `robot.Robot`.
    """

    def __init__(self, link, robot, size, clock=time.monotonic):
        self._link, self._robot, self._size, self._clock = link, robot, size, clock
        self._arm = Arm(size, clock())

    def on_sample(self, sample):
        """From the robot, in any thread."""
        if sample['stream'] == 'joints':
            self._arm.robot_lives(self._clock())
        try:
            self._link.send('samples', samples=[sample])
        except WireError:
            pass    # `run` sees it too

    def run(self):
        """Until the driver closes the link or something fails; '' or the cause, in one line."""
        due = beat = self._clock()
        try:
            while True:
                select.select([self._link], [], [], max(0.0, due - self._clock()))
                while (packet := self._link.receive()) is not None:
                    if packet['kind'] == 'close':
                        return ''
                    if packet['kind'] == 'command':
                        self._arm.command(velocity_of(packet, self._size), self._clock())
                        due = self._clock()     # at once
                    self._arm.driver_lives(self._clock())
                now = self._clock()
                if now < due:
                    continue
                due = now + _PERIOD_S
                velocity = self._arm.output(now)
                if velocity is not None:
                    self._robot.move(velocity)
                if now >= beat:
                    beat = now + HEARTBEAT_S
                    self._link.send('heartbeat')
                if fault := self._robot.fault() or self._arm.fault(now):
                    return fault
        except WireError as e:
            return 'the driver: %s' % e
        finally:
            self._robot.move([0.0] * self._size)


def _arguments(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument('--fd', type=int, required=True)
    parser.add_argument('--uri', required=True)
    parser.add_argument('--limb', required=True)
    parser.add_argument('--joints', required=True)
    parser.add_argument('--stamps', choices=('arrival', 'robot'), required=True)
    parser.add_argument('--deadline-s', type=float, required=True)
    parser.add_argument('--enable', action='store_true')
    parser.add_argument('--disable-at-end', action='store_true')
    return parser.parse_args(argv)


def _missing(e):
    name = getattr(e, 'name', None) or str(e)
    if 'intera_core_msgs' in name:
        return ('there is no Python package intera_core_msgs: name the folder that it is in, of your intera_common '
                'workspace, in python_path')
    return 'ROS 1 is not complete here, %s (Debian: python3-rospy, python3-sensor-msgs)' % ' '.join(str(e).split())


def main(argv=None):
    """Connects the link (an inherited socket) with the robot; leaves with 1 after telling what failed."""
    args = _arguments(argv)
    for number in (signal.SIGINT, signal.SIGTERM):      # the driver says when to end
        signal.signal(number, signal.SIG_IGN)
    link = Link(socket.socket(fileno=args.fd))
    joints = args.joints.split(',')
    try:
        from .robot import Robot, RobotError
    except ImportError as e:
        _leave(link, _missing(e))
    waiting = []    # for the samples: the bridge, once it is there
    try:
        robot = Robot(args.uri, args.limb, joints, args.stamps, lambda s: [b.on_sample(s) for b in waiting],
                      args.deadline_s)
        robot.wait(args.deadline_s)
        robot.start(args.enable)
        bridge = Bridge(link, robot, len(joints))
        link.send('ready')
        waiting.append(bridge)
        error = bridge.run()
        if args.disable_at_end:
            robot.disable()
    except (RobotError, WireError) as e:
        error = str(e)
    except Exception as e:      # rospy's own
        error = '%s: %s' % (type(e).__name__, ' '.join(str(e).split()))
    _leave(link, error)


def _leave(link, error):
    """Ends the process at once: rospy's threads would hold it up."""
    if error:
        try:
            link.send('error', text=error[:800])
        except WireError:
            pass
    time.sleep(0.05)    # for rospy to write the last command
    os._exit(1 if error else 0)

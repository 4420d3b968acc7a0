# SPDX-License-Identifier: Apache-2.0
"""The process in ROS 1's Python: `main` is started by `chef_control.devices.sawyer`."""

from __future__ import annotations

import argparse
import socket

from ..arm_link.bridge import leave, serve
from ..arm_link.wire import Link


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
    link = Link(socket.socket(fileno=args.fd))
    joints = args.joints.split(',')
    try:
        from .robot import Robot
    except ImportError as e:
        leave(link, _missing(e))

    def start(on_sample):
        robot = Robot(args.uri, args.limb, joints, args.stamps, on_sample, args.deadline_s)
        robot.wait(args.deadline_s)
        robot.start(args.enable)
        return robot, robot.disable if args.disable_at_end else lambda: None

    serve(link, len(joints), start)

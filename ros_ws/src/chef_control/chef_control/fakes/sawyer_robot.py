# SPDX-License-Identifier: Apache-2.0
"""The ROS 1 half of the stand-in Sawyer: its topics, its states, its watchdog. Started by `chef_control.fakes.sawyer`.

It runs in ROS 1's own Python and gets what the body does over a socket, see `chef_control.arm_link.wire`:

    body to robot    samples    of streams joints and tcp, published at once; of stream state: fields of the robot's state,
                                `mute` (true: no topic any more) and `patient` (true: without its own watchdog)
    robot to body    ready      it is there; its state is as it was told to be
                     command    velocity[n] that the motors now follow
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import threading
import time

import rospy
from intera_core_msgs.msg import EndpointState, JointCommand, RobotAssemblyState
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty, Float64

from chef_control.arm_link.wire import Link, WireError

_PERIOD_S = 0.01
_TIMEOUT_S = 0.2    # the robot's own default
_PATIENCE_S = 2.0


class StandIn:
    """State and topics; a lock for rospy's threads."""

    def __init__(self, link, limb, joints):
        self._link, self._joints = link, joints
        self._lock = threading.Lock()
        self._state = RobotAssemblyState(homed=True, ready=True)
        self._mute = self._patient = False
        self._timeout_s = _TIMEOUT_S
        self._velocity, self._until_s = [0.0] * len(joints), 0.0
        rospy.set_param('/robot_config/assembly_names', [limb, 'torso', 'head'])
        rospy.set_param('/robot_config/%s_config/joint_names' % limb, joints)
        rospy.set_param('/manifest/robot_class', 'sawyer')
        at = '/robot/limb/%s/' % limb
        options = {'tcp_nodelay': True, 'queue_size': 10}
        self._states = rospy.Publisher('/robot/state', RobotAssemblyState, latch=True, **options)
        self._joint_states = rospy.Publisher('/robot/joint_states', JointState, **options)
        self._endpoints = rospy.Publisher(at + 'endpoint_state', EndpointState, **options)
        for topic, kind, callback in ((at + 'joint_command', JointCommand, self._on_command),
                                      (at + 'joint_command_timeout', Float64, self._on_timeout),
                                      ('/robot/set_super_enable', Bool, self._on_enable),
                                      ('/robot/set_super_stop', Empty, lambda m: self._set(stopped=True, estop_source=2)),
                                      ('/robot/set_super_reset', Empty, self._on_reset)):
            rospy.Subscriber(topic, kind, callback, tcp_nodelay=True)

    def _set(self, **fields):
        with self._lock:
            for name, value in fields.items():
                setattr(self._state, name, value)
            if self._state.stopped:
                self._state.enabled = self._state.ready = False
            if not self._state.enabled:
                self._until_s = 0.0
        self.publish_state()

    def publish_state(self):
        if not self._mute:
            self._states.publish(self._state)

    def _on_enable(self, m):
        self._set(enabled=m.data and not self._state.stopped)

    def _on_reset(self, m):
        if self._state.estop_button != 1:
            self._set(stopped=False, error=False, ready=True, estop_button=0, estop_source=0)

    def _on_timeout(self, m):
        self._timeout_s = m.data

    def _on_command(self, m):
        if m.mode != JointCommand.VELOCITY_MODE or sorted(m.names) != sorted(self._joints) \
                or len(m.velocity) != len(self._joints):
            rospy.logerr('a command that is no velocity of each joint')
            return
        with self._lock:
            if self._state.enabled:
                self._velocity = [m.velocity[m.names.index(j)] for j in self._joints]
                self._until_s = time.monotonic() + (_PATIENCE_S if self._patient else self._timeout_s)

    def velocity(self):
        """What the motors follow now, [n] rad/s."""
        with self._lock:
            return self._velocity if time.monotonic() < self._until_s else [0.0] * len(self._joints)

    def show(self, sample):
        """A sample of the body."""
        if sample['stream'] == 'state':
            fields = {k: v for k, v in sample.items() if k not in ('stream', 'mute', 'patient')}
            self._mute, self._patient = sample.get('mute', self._mute), sample.get('patient', self._patient)
            if fields:
                self._set(**fields)
            self._link.send('ready')    # it is so now
        elif self._mute:
            return
        elif sample['stream'] == 'joints':
            # as the robot's own message: also the head and the torso, and not in the arm's order
            m = JointState(name=['head_pan', *self._joints, 'torso_t0'])
            m.header.stamp = rospy.Time.from_sec(sample['stamp'] * 1e-9)
            for field in ('position', 'velocity', 'effort'):
                setattr(m, field, [0.0, *sample[field], 0.0])
            self._joint_states.publish(m)
        elif sample['stream'] == 'tcp':
            m = EndpointState(valid=True)
            m.header.stamp, m.header.frame_id = rospy.Time.from_sec(sample['stamp'] * 1e-9), '/base'
            p, o = m.pose.position, m.pose.orientation
            p.x, p.y, p.z, o.w, o.x, o.y, o.z = sample['pose']
            v, w = m.twist.linear, m.twist.angular
            v.x, v.y, v.z, w.x, w.y, w.z = sample['twist']
            self._endpoints.publish(m)


def main(argv):
    parser = argparse.ArgumentParser()
    parser.add_argument('--fd', type=int, required=True)
    parser.add_argument('--limb', required=True)
    parser.add_argument('--joints', required=True)
    args = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    link = Link(socket.socket(fileno=args.fd))
    rospy.init_node('realtime_loop', disable_signals=True, disable_rosout=True)
    robot = StandIn(link, args.limb, args.joints.split(','))
    link.send('ready')
    due, shown = time.monotonic(), 0.0
    try:
        while True:
            select.select([link], [], [], max(0.0, due - time.monotonic()))
            while (packet := link.receive()) is not None:
                if packet['kind'] == 'close':
                    os._exit(0)
                for sample in packet.get('samples', []):
                    robot.show(sample)
            now = time.monotonic()
            if now >= due:
                due = now + _PERIOD_S
                link.send('command', velocity=robot.velocity())
            if now - shown > 0.05:
                shown = now
                robot.publish_state()
    except WireError:
        os._exit(0)

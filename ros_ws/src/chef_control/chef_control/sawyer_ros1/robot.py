# SPDX-License-Identifier: Apache-2.0
"""The Sawyer's own ROS 1 topics: joint velocities out, joints, endpoint and state in."""

from __future__ import annotations

import threading
import time
import xmlrpc.client

import rospy
from intera_core_msgs.msg import EndpointState, JointCommand, RobotAssemblyState
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64

from ..arm_link.bridge import RobotError
from ..arm_link.wire import SILENCE_S

_QUEUE = 100    # of messages that came while Python was busy: every sample is recorded
_MASTER_EVERY_S = 0.5
_MASTER_MISSES = 2
_ENABLE_DEADLINE_S = 5.0


def stopped_because(state):
    """Why a robot in this state (intera_core_msgs/RobotAssemblyState) cannot move, in words, or ''.

    Being disabled is not told here: that is for the driver to change.
    """
    if state.stopped:
        if state.estop_button == 1:
            return 'its emergency stop is pressed'
        if state.estop_source == 3:
            return 'a joint fault has stopped it: reset it (intera_interface: enable_robot.py -r)'
        return 'it was stopped: release the emergency stop and reset it (intera_interface: enable_robot.py -r)'
    if state.error:
        return 'it reports an error of one of its parts'
    if not state.homed:
        return 'its joints are not homed'
    return ''


class _Transport(xmlrpc.client.Transport):
    """With a deadline, in s, on every answer."""

    def __init__(self, deadline_s):
        super().__init__()
        self._deadline_s = deadline_s

    def make_connection(self, host):
        connection = super().make_connection(host)
        connection.timeout = self._deadline_s
        return connection


def master_pid(uri, deadline_s=1.0):
    """Process id of the ROS master; RobotError if it does not answer."""
    try:
        answer = xmlrpc.client.ServerProxy(uri, transport=_Transport(deadline_s)).getPid('/chef')
        return int(answer[2])
    except Exception as e:      # a wrong URI, a refused connection, a deadline, no XML-RPC
        raise RobotError('no ROS master answers at %s: %s' % (uri, ' '.join(str(e).split())[:200])) from None


def _await_master(uri, deadline_s):
    """As `master_pid`, once there is one: robots take minutes to start."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            return master_pid(uri)
        except RobotError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


class Robot:
    """The topics of one limb.

    on_sample is called with each sample of the joints (stream 'joints') and the endpoint (stream 'tcp', as the robot
    tells it), from rospy's threads. stamps: 'arrival', or 'robot' for the stamps of the robot's own clock.
    """

    def __init__(self, uri, limb, joints, stamps, on_sample, deadline_s):
        self._uri, self._joints, self._stamps, self._on_sample = uri, list(joints), stamps, on_sample
        self._master = _await_master(uri, deadline_s)
        self._master_fault = ''
        self._state = None
        self._news = threading.Condition()
        self._heard = False
        rospy.init_node('chef_arm', anonymous=True, disable_signals=True, disable_rosout=True)
        at = '/robot/limb/%s/' % limb
        self._topics = {'state': '/robot/state', 'joints': '/robot/joint_states'}
        self._command = rospy.Publisher(at + 'joint_command', JointCommand, tcp_nodelay=True, queue_size=1)
        self._timeout = rospy.Publisher(at + 'joint_command_timeout', Float64, latch=True, queue_size=1)
        self._enable = rospy.Publisher('/robot/set_super_enable', Bool, queue_size=10)
        for topic, kind, callback in ((self._topics['state'], RobotAssemblyState, self._on_state),
                                      (self._topics['joints'], JointState, self._on_joints),
                                      (at + 'endpoint_state', EndpointState, self._on_endpoint)):
            rospy.Subscriber(topic, kind, callback, queue_size=_QUEUE, tcp_nodelay=True)
        threading.Thread(target=self._watch_master, daemon=True).start()

    def wait(self, deadline_s):
        """Until the robot has told its state and its joints; RobotError if it does not in time."""
        end = time.monotonic() + deadline_s
        with self._news:
            while self._state is None or not self._heard:
                if not self._news.wait(max(0.0, end - time.monotonic())):
                    missing = self._topics['state' if self._state is None else 'joints']
                    detail = '' if self._state is None else ' with the joints %s' % ', '.join(self._joints)
                    raise RobotError('nothing came on %s%s within %g s: is %s a Sawyer\'s master, and can the robot '
                                     'reach this machine (ROS_IP)?' % (missing, detail, deadline_s, self._uri))

    def start(self, enable):
        """Makes sure that it can move, and enables it if asked to; RobotError if it cannot."""
        if cause := stopped_because(self._state):
            raise RobotError('the robot cannot move: ' + cause)
        if not self._state.enabled:
            if not enable:
                raise RobotError('the robot is disabled, and the cell does not ask to enable it (enable: true)')
            self._set_enabled(True)
        # the robot's own watchdog: without commands for so long it leaves velocity mode and holds its position
        self._timeout.publish(Float64(SILENCE_S))

    def _set_enabled(self, wanted):
        end = time.monotonic() + _ENABLE_DEADLINE_S
        while self._state.enabled != wanted:
            if time.monotonic() > end:
                raise RobotError('the robot did not become %s within %g s'
                                 % ('enabled' if wanted else 'disabled', _ENABLE_DEADLINE_S))
            self._enable.publish(Bool(wanted))
            time.sleep(0.05)

    def disable(self):
        """RobotError if it does not obey."""
        self._set_enabled(False)

    def move(self, velocity):
        """Joint velocities, [n] rad/s, in the order of `joints`."""
        m = JointCommand(mode=JointCommand.VELOCITY_MODE, names=self._joints, velocity=velocity)
        m.header.stamp = rospy.Time.from_sec(time.time())
        self._command.publish(m)

    def fault(self):
        """Why the robot can no longer be driven, in one line, or ''."""
        if self._master_fault:
            return self._master_fault
        if cause := stopped_because(self._state):
            return 'the robot has stopped: ' + cause
        return '' if self._state.enabled else 'the robot has been disabled'

    def _watch_master(self):
        misses = 0
        while not rospy.is_shutdown():
            time.sleep(_MASTER_EVERY_S)
            try:
                if master_pid(self._uri) != self._master:
                    self._master_fault = 'the ROS master at %s was restarted' % self._uri
                misses = 0
            except RobotError as e:
                misses += 1
                if misses >= _MASTER_MISSES:
                    self._master_fault = str(e)

    def _stamp(self, header):
        return time.time_ns() if self._stamps == 'arrival' else header.stamp.to_nsec()

    def _on_state(self, m):
        with self._news:
            self._state = m
            self._news.notify_all()

    def _on_joints(self, m):
        try:
            order = [m.name.index(j) for j in self._joints]
            sample = {'stream': 'joints', 'stamp': self._stamp(m.header),
                      **{field: [float(getattr(m, field)[i]) for i in order]
                         for field in ('position', 'velocity', 'effort')}}
        except (ValueError, IndexError):
            return      # the same topic also carries the head and the gripper, in messages of their own
        with self._news:
            self._heard = True
            self._news.notify_all()
        self._on_sample(sample)

    def _on_endpoint(self, m):
        if not m.valid:
            return
        p, o, v, w = m.pose.position, m.pose.orientation, m.twist.linear, m.twist.angular
        self._on_sample({'stream': 'tcp', 'stamp': self._stamp(m.header),
                         'pose': [p.x, p.y, p.z, o.w, o.x, o.y, o.z], 'twist': [v.x, v.y, v.z, w.x, w.y, w.z]})

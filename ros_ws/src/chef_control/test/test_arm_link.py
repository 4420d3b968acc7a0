# SPDX-License-Identifier: Apache-2.0
"""An arm's driver and the process that speaks to the robot, without ROS: packets, sequence, age, and who stops when."""

from __future__ import annotations

import json
import math
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control import ros1
from chef_control.arm_link import wire
from chef_control.arm_link.bridge import Bridge
from chef_control.arm_link.watch import Watch
from chef_control.arm_link.wire import MAX_AGE_NS, Link, Sequence, WireError

fast = settings(max_examples=40, deadline=None)
finite = st.floats(-1e6, 1e6)
junk = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=8), v, max_size=4), max_leaves=8)


@fast
@given(st.lists(finite, max_size=9), st.integers(0, 2**40), st.integers(0, 2**62))
def test_a_command_arrives_as_it_was_sent(velocity, seq, stamp):
    packet = wire.decode(wire.encode('command', seq, stamp, velocity=velocity))
    assert (packet['seq'], packet['stamp'], wire.velocity_of(packet, len(velocity))) == (seq, stamp, velocity)


@fast
@given(st.binary(max_size=60) | junk.map(lambda v: json.dumps(v).encode()) |
       st.dictionaries(st.sampled_from(['kind', 'seq', 'stamp', 'velocity', 'samples', 'text']),
                       st.sampled_from(wire.KINDS) | junk).map(lambda v: json.dumps(v).encode()))
def test_whatever_comes_is_a_packet_or_one_line(data):
    try:
        packet = wire.decode(data)
    except WireError as e:
        assert str(e) and '\n' not in str(e)
    else:
        assert packet['kind'] in wire.KINDS and type(packet['seq']) is type(packet['stamp']) is int
        if packet['kind'] == 'command':
            try:
                assert len(wire.velocity_of(packet, 7)) == 7
            except WireError:
                pass


@pytest.mark.parametrize('velocity', [None, [0.0] * 6, [0.0] * 8, [math.nan] * 7, [math.inf] * 7, ['0'] * 7, [True] * 7])
def test_velocities_that_are_none_are_refused(velocity):
    with pytest.raises(WireError, match='a command that is not 7 finite velocities'):
        wire.velocity_of({'velocity': velocity}, 7)


@fast
@given(st.lists(st.integers(0, 12), max_size=12))
def test_only_an_unbroken_sequence_is_admitted(numbers):
    sequence, due = Sequence(), 0
    for number in numbers:
        packet = {'kind': 'command', 'seq': number, 'stamp': 0}
        if number != due:
            with pytest.raises(WireError, match=f'packet {number} came where {due} was due'):
                sequence.admits(packet, 0)
            return
        assert sequence.admits(packet, 0)
        due += 1


@pytest.mark.parametrize('kind', ['command', 'heartbeat', 'samples'])
@pytest.mark.parametrize('age_ns, fresh', [(0, True), (MAX_AGE_NS, True), (MAX_AGE_NS + 1, False), (-MAX_AGE_NS - 1, False)])
def test_what_is_old_or_from_the_future_counts_for_nothing(kind, age_ns, fresh):
    sequence = Sequence()
    assert sequence.admits({'kind': kind, 'seq': 0, 'stamp': 10**18}, 10**18 + age_ns) is fresh
    assert sequence.late == (not fresh)
    assert sequence.admits({'kind': kind, 'seq': 1, 'stamp': 10**18}, 10**18)


def test_an_old_goodbye_is_still_obeyed():
    assert Sequence().admits({'kind': 'close', 'seq': 0, 'stamp': 0}, 10**18)


# ---- the watchdog towards both sides, on a clock of the test's own

MOVE = [0.1] * 7
ZERO = [0.0] * 7


def test_a_command_is_obeyed_for_100_ms_then_stopped_then_left_to_the_robot():
    a = Watch(7, 0.0)
    assert a.output(0.0) is None
    a.command(MOVE, 1.0)
    a.robot_lives(1.0)
    assert a.output(1.0) == MOVE
    a.robot_lives(1.1)
    assert a.output(1.099) == MOVE
    assert a.output(1.101) == ZERO and a.stops == 1
    assert a.output(1.102) == ZERO and a.stops == 1     # once a silence
    a.command(MOVE, 1.2)
    assert a.output(1.2) == MOVE
    a.command(ZERO, 1.25)
    a.robot_lives(1.6)
    assert a.output(1.4) == ZERO and a.stops == 1
    assert a.output(1.7) is None and a.output(1.8) is None


def test_a_robot_that_is_silent_is_stopped_though_commands_go_on():
    a = Watch(7, 0.0)
    for ms in range(0, 300, 10):
        a.command(MOVE, ms / 1000)
        assert a.output(ms / 1000) == (MOVE if ms <= 100 else ZERO)
    a.robot_lives(0.3)
    a.command(MOVE, 0.3)
    assert a.output(0.3) == MOVE


def test_either_side_is_given_up_after_two_seconds():
    a = Watch(7, 0.0)
    assert a.fault(2.0) == ''
    a.driver_lives(0.5)
    assert a.fault(2.01) == 'the robot has not told its joints for 2.0 s'
    a.robot_lives(2.01)
    a.driver_lives(0.1)     # what came before counts no less for having been read later
    assert a.fault(2.49) == ''
    assert a.fault(2.6) == 'the driver has been silent for 2.1 s'


def test_a_driver_that_does_not_read_loses_samples_but_no_packet_that_it_is_promised():
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sender, reader = Link(here), Link(there)
    sent = 0
    while sender.send('ready', filler='x' * 1000):
        sent += 1
    got = [reader.receive()['seq'] for _ in range(sent)]
    assert got == list(range(sent)) and reader.receive() is None
    assert sender.send('error', text='the end') and reader.receive()['text'] == 'the end'


# ---- the bridge between a real socket and a robot of the test's own

class Robot:
    def __init__(self):
        self.told, self.broken = [], ''

    def move(self, velocity):
        self.told.append(velocity)

    def fault(self):
        return self.broken


class Joined:
    """A bridge that runs in a thread, and the driver's end of its socket."""

    def __enter__(self):
        self.here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link, self.robot = Link(self.here), Robot()
        self.bridge = Bridge(Link(there), self.robot, 7)
        self.thread = threading.Thread(target=lambda: setattr(self, 'result', self.bridge.run()), daemon=True)
        self.thread.start()
        return self

    def until(self, holds):
        """Keeps the driver and the robot alive until something holds."""
        end = time.monotonic() + 10.0
        while not holds():
            assert time.monotonic() < end
            self.bridge.on_sample({'stream': 'joints', 'stamp': 1})
            time.sleep(0.005)

    def ended(self):
        self.thread.join(10.0)
        assert self.robot.told[-1] == ZERO
        return self.result

    def __exit__(self, *_):
        self.link.close()
        self.thread.join(10.0)


def test_the_bridge_obeys_and_ends_with_a_stop():
    with Joined() as j:
        j.link.send('command', velocity=MOVE)
        j.until(lambda: MOVE in j.robot.told)
        j.link.send('close')
        assert j.ended() == ''


@pytest.mark.parametrize('packet, text', [
    (wire.encode('command', 2, time.time_ns(), velocity=MOVE), 'packet 2 came where 1 was due'),
    (wire.encode('command', 0, time.time_ns(), velocity=MOVE), 'packet 0 came where 1 was due'),
    (wire.encode('command', 1, 2**62, velocity=MOVE[:3]), None),     # of a future: no obedience, no harm
    (b'\x00\xff', 'a packet of 2 bytes is not JSON'),
], ids=['one is missing', 'one came twice', 'from the future', 'garbage'])
def test_a_broken_sequence_or_garbage_ends_the_bridge_with_a_stop(packet, text):
    with Joined() as j:
        j.link.send('command', velocity=MOVE)
        j.until(lambda: MOVE in j.robot.told)
        j.here.send(packet)
        if text is None:
            before = len(j.robot.told)
            j.until(lambda: len(j.robot.told) > before)
            assert j.thread.is_alive()
        else:
            assert j.ended() == f'the driver: {text}'


def test_a_command_that_was_long_under_way_is_not_obeyed():
    with Joined() as j:
        j.here.send(wire.encode('command', 0, time.time_ns() - 2 * MAX_AGE_NS, velocity=MOVE))
        j.here.send(wire.encode('command', 1, time.time_ns(), velocity=ZERO))
        j.until(lambda: ZERO in j.robot.told)
        assert MOVE not in j.robot.told


def test_a_driver_that_dies_and_a_robot_that_fails_end_the_bridge_with_a_stop():
    with Joined() as j:
        j.link.send('command', velocity=MOVE)
        j.until(lambda: MOVE in j.robot.told)
        j.here.close()
        assert j.ended() == 'the driver: it has gone'
    with Joined() as j:
        j.robot.broken = 'the robot has stopped: its emergency stop is pressed'
        assert j.ended() == j.robot.broken


def test_ros_1s_python_can_load_the_bridge_without_ros_2(tmp_path):
    """Whatever Python: nothing but the standard library is imported before ROS 1 is."""
    process = ros1.start('chef_control.sawyer_ros1.main', ['--help'], python='/usr/bin/python3', master_uri='http://x')
    assert process.wait(20) == 0
    assert not {k for k in ros1.environment('http://x') if k.startswith(('PYTHONPATH', 'AMENT', 'ROS_DISTRO'))}


def test_late_packets_move_nothing_but_show_that_their_sender_is_there():
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader = Link(there)
    before = reader.heard_s
    here.send(wire.encode('heartbeat', 0, time.time_ns() - 2 * MAX_AGE_NS))
    assert reader.receive() is None and reader.sequence.late == 1 and reader.heard_s > before

# SPDX-License-Identifier: Apache-2.0
"""The safety gate: what it lets through, what it stops, and that a stop stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chef_control.drivers.watchdog import CommandWatchdog
from chef_control.safety import HOLD, MOVE, JointCommand, SafetyGate
from chef_task.limits import Limits

MS = 1_000_000
LIMITS = Limits()


def gate_at(now: int = 0) -> SafetyGate:
    gate = SafetyGate(LIMITS)
    gate.on_wrench((0, 0, 1), now)
    gate.on_joints(np.zeros(7), np.zeros(7), now)
    return gate


def command(velocity=0.1, mode=MOVE, gripper=1.0) -> JointCommand:
    return JointCommand(5, mode, np.full(7, velocity), gripper)


def test_a_command_within_the_limits_passes_unchanged():
    c = command()
    assert gate_at().filter(c, 0) is c


def test_force_at_the_limit_latches_until_cleared():
    gate = gate_at()
    gate.on_wrench((0, 12, 16), 0)
    assert gate.reason.startswith('force_limit')
    assert not gate.filter(command(), 0).velocity.any()
    gate.on_wrench((0, 0, 0), 0)
    assert not gate.filter(command(), 0).velocity.any()
    assert gate.peak_force_n == pytest.approx(20.0)
    assert gate.clear() == ''
    assert gate.filter(command(), 0).velocity.any()


def test_a_lost_node_cannot_be_cleared_away():
    gate = gate_at()
    gate.trip('node_lost')
    assert gate.clear() == 'node_lost'
    assert not gate.filter(command(), 0).velocity.any()


def test_nothing_is_cleared_before_every_watched_sensor_was_heard():
    gate = SafetyGate(LIMITS)
    assert 'wrench' in gate.clear()
    gate.on_wrench((0, 0, 0), 0)
    assert 'joints' in gate.clear()
    gate.on_joints(np.zeros(7), np.zeros(7), 0)
    assert gate.clear() == ''


def test_force_below_the_limit_does_not_stop():
    gate = gate_at()
    gate.on_wrench((0, 12, 15.99), 0)
    assert not gate.stopped


def test_silence_after_a_move_trips_and_after_a_hold_does_not():
    for mode, trips in ((MOVE, True), (HOLD, False)):
        gate = gate_at()
        gate.filter(command(mode=mode), 0)
        late = int(LIMITS.command_age_s * 1e9) + MS
        gate.on_wrench((0, 0, 0), late)
        gate.on_joints(np.zeros(7), np.zeros(7), late)
        gate.check(late)
        assert gate.reason.startswith('stale_command') is trips


@pytest.mark.parametrize('stream', SafetyGate.WATCHED)
def test_a_silent_sensor_stops_a_moving_arm(stream):
    gate = gate_at()
    for t in range(0, 300, 20):
        now = t * MS
        if stream != 'wrench':
            gate.on_wrench((0, 0, 0), now)
        if stream != 'joints':
            gate.on_joints(np.zeros(7), np.zeros(7), now)
        gate.filter(command(), now)
    assert gate.reason == f'stale_sensor:{stream}'


def test_lockstep_waits_for_its_deadline_in_wall_time():
    gate = SafetyGate(LIMITS, lockstep_deadline_s=2.0)
    gate.on_wrench((0, 0, 0), 0)
    gate.on_joints(np.zeros(7), np.zeros(7), 0)
    gate.filter(command(), 0)
    gate.check(1900 * MS)
    assert not gate.stopped
    gate.check(2100 * MS)
    assert gate.stopped


@pytest.mark.parametrize('force', [(np.nan, 0, 0), (np.inf, 0, 0)])
def test_an_absurd_force_stops(force):
    gate = gate_at()
    gate.on_wrench(force, 0)
    assert gate.reason.startswith('bad_sensor:wrench')


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=9),
       st.floats(allow_nan=True, allow_infinity=True))
def test_whatever_comes_in_only_bounded_velocities_go_out(velocity, gripper):
    out = gate_at().filter(JointCommand(0, MOVE, np.array(velocity), gripper), 0)
    assert out.velocity.shape == (7,)
    assert np.all(np.abs(out.velocity) <= np.array(LIMITS.joint_velocity_rad_s) * 1.001)
    assert np.isfinite(out.gripper)


def test_the_watchdog_expires_once_per_silence():
    dog = CommandWatchdog(0.1)
    assert not dog.expired(5.0)
    dog.command(MOVE, 5.0)
    assert not dog.expired(5.09)
    assert dog.expired(5.11) and not dog.expired(5.2)
    dog.command(HOLD, 6.0)
    assert not dog.expired(9.0)

# SPDX-License-Identifier: Apache-2.0
"""The safety gate: what it lets through, what it stops, and that a stop stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.drivers.watchdog import CommandWatchdog
from chef_control.safety import HOLD, MOVE, JointCommand, SafetyGate
from chef_task.limits import Limits

MS = 1_000_000
LIMITS = Limits()
ZERO = (0.0, 0.0, 0.0)
RANGE = (np.full(7, -3.0), np.full(7, 3.0))


def gate_at(now: int = 0) -> SafetyGate:
    gate = SafetyGate(LIMITS, joint_range=RANGE)
    gate.on_wrench((0, 0, 1), ZERO, now)
    gate.on_joints(np.zeros(7), np.zeros(7), now)
    return gate


def command(velocity=0.1, mode=MOVE, gripper=1.0) -> JointCommand:
    return JointCommand(5, mode, np.full(7, velocity), gripper)


def test_a_command_within_the_limits_passes_unchanged():
    c = command()
    assert gate_at().filter(c, 0) is c


def test_force_at_the_limit_latches_until_cleared():
    gate = gate_at()
    gate.on_wrench((0, 12, 16), ZERO, 0)
    assert gate.reason.startswith('force_limit')
    assert not gate.filter(command(), 0).velocity.any()
    gate.on_wrench((0, 0, 0), ZERO, 0)
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
    gate.on_wrench((0, 0, 0), ZERO, 0)
    assert 'joints' in gate.clear()
    gate.on_joints(np.zeros(7), np.zeros(7), 0)
    assert gate.clear() == ''


def test_force_below_the_limit_does_not_stop():
    gate = gate_at()
    gate.on_wrench((0, 12, 15.99), ZERO, 0)
    assert not gate.stopped


def test_silence_after_a_move_trips_and_after_a_hold_does_not():
    for mode, trips in ((MOVE, True), (HOLD, False)):
        gate = gate_at()
        gate.filter(command(mode=mode), 0)
        late = int(LIMITS.command_age_s * 1e9) + MS
        gate.on_wrench((0, 0, 0), ZERO, late)
        gate.on_joints(np.zeros(7), np.zeros(7), late)
        gate.check(late)
        assert gate.reason.startswith('stale_command') is trips


def test_an_actuator_that_hears_no_command_stops_all_while_one_is_due():
    for mode, reason in ((MOVE, 'stale_command:none reached the arm'), (HOLD, '')):
        gate = gate_at()
        gate.filter(command(mode=mode), 0)
        gate.on_silence('arm')
        assert gate.reason == reason


@pytest.mark.parametrize('stream', SafetyGate.WATCHED)
def test_a_silent_sensor_stops_a_moving_arm(stream):
    gate = gate_at()
    for t in range(0, 300, 20):
        now = t * MS
        if stream != 'wrench':
            gate.on_wrench((0, 0, 0), ZERO, now)
        if stream != 'joints':
            gate.on_joints(np.zeros(7), np.zeros(7), now)
        gate.filter(command(), now)
    assert gate.reason == f'stale_sensor:{stream}'


def test_lockstep_waits_for_its_deadline_in_wall_time():
    gate = SafetyGate(LIMITS, lockstep_deadline_s=2.0)
    gate.on_wrench((0, 0, 0), ZERO, 0)
    gate.on_joints(np.zeros(7), np.zeros(7), 0)
    gate.filter(command(), 0)
    gate.check(1900 * MS)
    assert not gate.stopped
    gate.check(2100 * MS)
    assert gate.stopped


@pytest.mark.parametrize('force, torque', [
    ((np.nan, 0, 0), ZERO), ((np.inf, 0, 0), ZERO), (ZERO, (0, np.nan, 0)), ((0, 0, 1001), ZERO), (ZERO, (0, 0, 101))])
def test_an_absurd_wrench_is_a_bad_sensor_not_a_force(force, torque):
    gate = gate_at()
    gate.on_wrench(force, torque, 0)
    assert gate.reason.startswith('bad_sensor:wrench')


@pytest.mark.parametrize('position, velocity, reason', [
    (np.nan, 0.0, 'bad_sensor:joints'),
    (0.0, np.inf, 'bad_sensor:joints'),
    (3.04, 0.0, ''),
    (3.06, 0.0, 'limit_violated:joint 2 is at 3.06 rad'),
    (-3.06, 0.0, 'limit_violated:joint 2 is at -3.06 rad'),
    (0.0, 1.957 * 1.49, ''),
    (0.0, -1.957 * 1.51, 'limit_violated:joint 2 moves at -2.96 rad/s'),
])
def test_what_the_joints_measure_is_checked(position, velocity, reason):
    gate = gate_at()
    q, v = np.zeros(7), np.zeros(7)
    q[2], v[2] = position, velocity
    gate.on_joints(q, v, 0)
    assert gate.reason == reason


@pytest.mark.parametrize('age_s, stops', [(0.0, False), (0.099, False), (0.101, True), (-0.2, True), (np.nan, True)])
def test_a_command_stamped_long_ago_or_in_the_future_is_not_obeyed(age_s, stops):
    gate = gate_at()
    out = gate.filter(command(), 0, age_s)
    assert gate.reason.startswith('stale_command') is stops
    assert out.velocity.any() != stops


def test_an_operators_stop_outranks_and_is_not_the_automations_to_clear():
    gate = gate_at()
    gate.on_wrench((0, 0, 25), ZERO, 0)
    gate.trip('operator_stop')
    gate.on_wrench((0, 0, 25), ZERO, 0)
    assert gate.reason == 'operator_stop'
    assert gate.clear() == 'operator_stop' and gate.stopped
    assert gate.clear(by_operator=True) == '' and not gate.stopped


def test_a_lost_node_outranks_all():
    gate = gate_at()
    gate.trip('force_limit:30.0 N')
    gate.trip('node_lost')
    gate.trip('operator_stop')
    assert gate.clear() == gate.clear(by_operator=True) == 'node_lost'


def test_limits_can_only_be_tightened_and_hold_at_once():
    gate = gate_at()
    gate.tighten(10.0, 0.5)
    out = gate.filter(command(1.0), 0)
    expected = np.full(7, LIMITS.joint_velocity_rad_s[1] * 0.5)     # the slowest joint; all by the same factor
    np.testing.assert_allclose(out.velocity, expected)
    assert out.gripper == 0.5 and not gate.stopped
    for force, scale in ((10.1, 0.5), (10.0, 0.6), (0.0, 0.5), (np.nan, 0.5), (5.0, np.nan), (5.0, 0.0), (-1.0, 0.5)):
        with pytest.raises(ValueError, match='only be'):
            gate.tighten(force, scale)
    gate.on_wrench((0, 0, 10.1), ZERO, 0)
    assert gate.reason == 'force_limit:10.1 N'
    assert gate.limits.is_tighter_than(LIMITS)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=9),
       st.floats(allow_nan=True, allow_infinity=True))
def test_whatever_comes_in_only_bounded_velocities_go_out(velocity, gripper):
    out = gate_at().filter(JointCommand(0, MOVE, np.array(velocity), gripper), 0)
    assert out.velocity.shape == (7,)
    assert np.all(np.abs(out.velocity) <= np.array(LIMITS.joint_velocity_rad_s) * 1.001)
    assert np.isfinite(out.gripper)


anything = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-3, 3)
inputs = st.one_of(
    st.tuples(st.just('wrench'), st.tuples(anything, anything, anything) | st.just((0.0, 0.0, 30.0))),
    st.tuples(st.just('joints'), st.lists(anything, min_size=7, max_size=7) | st.just([0.0] * 7)),
    st.tuples(st.just('command'), st.tuples(st.sampled_from([HOLD, MOVE, 2]), anything, anything,
                                            st.just(0.0) | anything)),
    st.tuples(st.just('wait'), st.integers(0, 300)),
    st.tuples(st.just('trip'), st.sampled_from(['operator_stop', 'node_lost', 'force_limit:21.0 N'])),
    st.tuples(st.just('tighten'), st.tuples(anything, anything)),
    st.tuples(st.just('clear'), st.booleans()),
)


@settings(deadline=None)
@given(st.lists(inputs, max_size=40))
def test_after_a_stop_every_command_is_zero_until_it_is_cleared(sequence):
    """Whatever comes in, in any order; and what goes out while there is no stop is bounded."""
    gate, now = gate_at(), 0
    stopped_by = ''
    for what, value in sequence:
        if what == 'wrench':
            gate.on_wrench(value, ZERO, now)
        elif what == 'joints':
            gate.on_joints(np.zeros(7), np.array(value), now)
        elif what == 'wait':
            now += value * MS
            gate.check(now)
        elif what == 'trip':
            gate.trip(value)
        elif what == 'tighten':
            before = gate.limits
            try:
                gate.tighten(*value)
            except ValueError:
                assert gate.limits is before
            assert gate.limits.is_tighter_than(before)
        elif what == 'clear':
            was = gate.reason
            if gate.clear(by_operator=value) == '':
                assert was != 'node_lost' and (value or was != 'operator_stop')
                stopped_by = ''
        else:
            mode, velocity, gripper, age_s = value
            out = gate.filter(JointCommand(0, mode, np.full(7, velocity), gripper), now, age_s)
            if gate.stopped or mode != MOVE:
                assert not out.velocity.any() and out.gripper == 0
            assert np.all(np.abs(out.velocity) <= np.array(gate.limits.joint_velocity_rad_s) * 1.0011)
        assert not stopped_by or gate.stopped
        stopped_by = gate.reason


def test_the_watchdog_expires_once_per_silence():
    dog = CommandWatchdog(0.1)
    assert not dog.expired(5.0)
    assert dog.admits(MOVE, 0.01, 5.0)
    assert not dog.expired(5.09)
    assert dog.expired(5.11) and not dog.expired(5.2)
    assert dog.admits(HOLD, 0.0, 6.0)
    assert not dog.expired(9.0)


@pytest.mark.parametrize('age_s', [0.11, -0.11, float('nan'), float('inf')])
def test_an_old_command_neither_moves_nor_ends_a_silence(age_s):
    dog = CommandWatchdog(0.1)
    assert dog.admits(MOVE, 0.0, 5.0)
    assert not dog.admits(MOVE, age_s, 5.09)
    assert dog.expired(5.11)
    assert dog.admits(HOLD, age_s, 5.2)     # a stop is obeyed whenever it comes
    assert (dog.trips, dog.refused) == (1, 1)


def test_an_arm_that_still_presses_may_back_out_but_not_press_harder():
    gate = gate_at()
    gate.on_wrench((0, 0, 23.0), ZERO, 0)
    assert gate.reason.startswith('force_limit')
    gate.on_joints(np.zeros(7), np.zeros(7), 0)
    assert gate.clear() == ''
    for force in (23.5, 22.0, 21.0):            # the limit comes down with it
        gate.on_wrench((0, 0, force), ZERO, 0)
        assert not gate.stopped
    gate.on_wrench((0, 0, 22.5), ZERO, 0)
    assert gate.reason.startswith('force_limit')
    assert gate.clear() == ''
    gate.on_wrench((0, 0, 19.0), ZERO, 0)       # out of it: the ordinary limit holds again
    assert not gate.stopped
    gate.on_wrench((0, 0, 20.1), ZERO, 0)
    assert gate.reason.startswith('force_limit')


def test_an_arm_that_presses_too_hard_is_not_cleared():
    gate = gate_at()
    gate.on_joints(np.zeros(7), np.zeros(7), 0)
    gate.on_wrench((0, 41.0, 0), ZERO, 0)
    assert 'too much' in gate.clear() and 'too much' in gate.clear(by_operator=True) and gate.stopped

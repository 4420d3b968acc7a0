# SPDX-License-Identifier: Apache-2.0
"""Reset routines against a point that moves as it is told."""

from __future__ import annotations

import numpy as np
import pytest

from chef_control.reset import (ARRIVED, LATE, OPEN, TOOL_HIGH, TOOL_LOW, TOUCHED, ForceStop, Move, Place, place_reset,
                                random_tool_pose, tool_yaw)
from chef_control.reset_runner import ROUTINES, ResetError, ResetRunner
from chef_control.reset_senses import Senses
from chef_task import geometry, spaces
from chef_task.limits import Limits

PERIOD = spaces.CONTROL_PERIOD_NS
OBJECTS = np.array([[0.55, 0.05, 0.07, 1, 0, 0, 0], [0.6, 0, 0.07, 1, 0, 0, 0], [0.68, -0.08, 0.07, 1, 0, 0, 0]])


def pose(position, yaw) -> np.ndarray:
    """A tool facing down (half a turn about x), turned by yaw about the base's z."""
    turned = geometry.quat_multiply([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)], [0, 1, 0, 0])
    return np.concatenate([position, turned])


class Point:
    """The pinch as an integrator of its commands, over objects that lie still."""

    def __init__(self, moves=True):
        self.position, self.yaw, self.stamp = np.array([0.6, 0.0, 0.2]), 0.0, 10**9
        self.moves, self.commands, self.placed, self.gripper = moves, [], [], 0.0

        self.senses, self.objects, self.force = Senses(), OBJECTS, [0.0, 0.0, 0.0]

    def pose(self):
        return pose(self.position, self.yaw)

    def routine(self, name, seed):
        return ROUTINES[name](1, seed, self.senses, Limits())

    def command(self, stamp, action, move):
        self.commands.append((stamp, np.array(action), move))
        self.stamp += PERIOD
        if move and self.moves:
            self.position = self.position + action[:3] * spaces.LINEAR_SPEED_M_S * PERIOD * 1e-9
            self.yaw += action[3] * spaces.WRIST_SPEED_RAD_S * PERIOD * 1e-9
            self.gripper = action[4]

    def place(self, triplet, seed):
        self.placed.append((triplet, seed))
        return ''

    def run(self, name, seed=3, limit=20_000, routine=None):
        runner = ResetRunner(routine or self.routine(name, seed), self.command, self.place, self.senses)
        for k in range(limit):
            seen = self.objects.copy()
            seen[:, :3] += 1e-6 * (k % 7)     # no tracker measures the same twice
            self.senses.on_objects(self.stamp, seen)
            self.senses.on_wrench(self.force)
            runner.on_pose(self.stamp, self.pose())
            if runner.done:
                return runner
        raise AssertionError(f'not done, in {runner.phase}')


def test_yaw_of_a_downward_tool():
    for yaw in (-0.7, 0.0, 0.4):
        assert tool_yaw(pose([0, 0, 0], yaw)) == pytest.approx(yaw)


@pytest.mark.parametrize('name', ROUTINES)
def test_the_arm_ends_at_the_benchmarks_start_pose_and_holds(name):
    point = Point()
    point.run(name)
    assert np.all(point.position >= TOOL_LOW - 0.011) and np.all(point.position <= TOOL_HIGH + 0.011)
    assert not point.commands[-1][2]
    assert all(np.all(np.abs(a) <= 1) for _, a, _ in point.commands)


def test_one_command_for_every_period():
    point = Point()
    point.run('place')
    assert np.all(np.diff([stamp for stamp, _, _ in point.commands]) == PERIOD)


def test_a_stamp_seen_again_is_answered_again():
    point = Point()
    runner = ResetRunner(point.routine('place', 3), point.command, point.place, point.senses)
    for _ in range(2):
        runner.on_pose(10**9, pose(point.position, 0.0))
    (a, b) = point.commands
    assert a[0] == b[0] and a[2] is b[2] is True
    np.testing.assert_array_equal(a[1], b[1])


def test_place_asks_once_with_its_seed_after_the_arm_is_clear():
    point = Point()
    point.run('place', seed=11)
    assert point.placed == [(1, 11)]
    point.senses.pinch = Point().pose()
    steps = list(place_reset(1, 11, point.senses, Limits()))
    assert [type(s) for s in steps] == [Move, Place]
    assert steps[0].position[2] >= 0.22


def test_objects_are_placed_a_pose_after_the_hold_and_not_beside_it():
    """Else chance says which of the two the world hears of first."""
    point, calls, call = Point(), {}, 0
    runner = ResetRunner(point.routine('place', 3), point.command,
                         lambda *_: calls.update(placed=call, commands=len(point.commands)) or '', point.senses)
    while not runner.done:
        before = len(point.commands)
        runner.on_pose(point.stamp, point.pose())
        if calls.get('placed') == call:
            assert calls['commands'] == before and not point.commands[before - 1][2]    # the last word was a hold
        call += 1
    assert calls


def test_the_same_seed_gives_the_same_start():
    a, b = (random_tool_pose(np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1] == b[1]


def test_an_arm_that_does_not_move_fails_the_reset_in_time():
    with pytest.raises(ResetError, match='short after 30 s') as e:
        Point(moves=False).run('place')
    assert e.value.kind == 'timeout'


def test_objects_that_cannot_be_placed_fail_the_reset():
    point = Point()
    point.place = lambda triplet, seed: 'did not settle'
    with pytest.raises(ResetError, match='did not settle'):
        point.run('place')


@pytest.mark.parametrize('name', ROUTINES)
def test_an_arm_among_the_objects_rises_first_and_leaves_the_gripper_alone(name):
    point = Point()
    point.position = np.array([0.62, 0.03, 0.06])
    point.run(name)
    first = [a for _, a, _ in point.commands[:30]]
    assert all(a[2] == 1.0 and a[4] == 0.0 and np.abs(a[:2]).max() < 1e-6 and abs(a[3]) < 1e-6 for a in first)


def test_a_routine_is_told_how_each_move_ended():
    point, told = Point(), []
    there, far = point.position.copy(), np.array([0.7, 0.1, 0.3])

    def routine():
        told.append((yield Move('there', there + [0.0, 0.02, 0.0], 0.0, OPEN)))
        told.append((yield Move('far', far, 0.0, OPEN, until_s=0.3, required=False)))
        point.force = [0.0, 3.0, 4.0]
        told.append((yield Move('against', far, 0.0, OPEN, guard_n=6.0, until_s=0.4, required=False)))   # tared away
        told.append((yield Move('bent', far, 0.0, OPEN, until=lambda: point.position[0] > 0.65)))
        point.force = [0.0, 3.0, 4.0]
        yield Move('hold', point.position, 0.0, OPEN, until_s=0.6, required=False, tolerance_m=-1.0)
        told.append((yield press))
    press = Move('press', far, 0.0, OPEN, guard_n=6.0, until=lambda: setattr(point, 'force', [0.0, 3.0, 11.0]))
    point.run('', routine=routine())
    assert told == [ARRIVED, LATE, LATE, 'done', TOUCHED]


def test_a_force_stop_reaches_the_routine_and_fails_one_that_cannot_go_on():
    point, seen = Point(), []

    def routine():
        try:
            yield Move('press', np.array([0.7, 0.1, 0.3]), 0.0, OPEN)
        except ForceStop as e:
            seen.append(str(e))
        yield Move('again', np.array([0.6, 0.0, 0.25]), 0.0, OPEN)
    runner = ResetRunner(routine(), point.command, point.place, point.senses)
    runner.on_pose(point.stamp, point.pose())
    before = point.stamp
    runner.interrupt('force_limit:21 N')
    point.stamp = before - PERIOD       # in lockstep time stands still meanwhile
    runner.on_pose(point.stamp, point.pose())
    assert seen == ['force_limit:21 N'] and runner.phase == 'again' and runner.force_stops == 1 and len(point.commands) == 2
    runner = ResetRunner(point.routine('place', 3), point.command, point.place, point.senses)
    runner.on_pose(point.stamp, point.pose())
    runner.interrupt('force_limit:21 N')
    with pytest.raises(ResetError, match='force_limit') as e:
        runner.on_pose(point.stamp + PERIOD, point.pose())
    assert e.value.kind == 'safety'


def test_fingers_that_wedge_the_hand_up_wait_while_it_gives_way():
    point = Point()
    point.position[2] = 0.08

    def routine():
        yield Move('grasp', point.position.copy(), 0.0, 1.0, until_s=1.0, required=False, tolerance_m=-1.0, yield_n=3.0)
    runner = ResetRunner(routine(), point.command, point.place, point.senses)
    for force in (0, 0, 0, 0, 8, 8, 0, 0, 0, 0):
        point.senses.on_wrench([0.0, 0.0, force])
        runner.on_pose(point.stamp, point.pose())
    up, fingers = np.array([a[[2, 4]] for _, a, _ in point.commands]).T
    assert fingers[:4].sum() == 2.0 and not fingers[4:6].any() and fingers[6:].sum() == 2.0     # at half speed, but for that
    assert not up[:4].any() and (up[4:6] > 0.3).all() and point.position[2] > 0.085

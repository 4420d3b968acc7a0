# SPDX-License-Identifier: Apache-2.0
"""The reset without hands: what it knows, what it says when it fails, and that it works in the simulated cell."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from test_reset import OBJECTS, PERIOD, Point

from chef_control import basket
from chef_control.reset import ForceStop, ResetError
from chef_control.reset_runner import ROUTINES, ResetRunner
from chef_control.reset_senses import ObjectWatch, Senses
from chef_control.simulated_cell import SimulatedCell
from chef_control.stir import DROP_HALF_M, FORCE_STOPS
from chef_sim import cell as sim
from chef_task.cell import CellConfig
from chef_task.limits import Limits

CONFIG = Path(__file__).resolve().parents[4] / 'config' / 'cells' / 'sim.yaml'


def test_a_position_is_the_median_of_what_is_seen_and_gaps_are_not_seen():
    watch, rng, stamp = ObjectWatch(), np.random.default_rng(0), 10**9
    assert watch.position(0) is None
    for k in range(20):
        seen = OBJECTS.copy()
        seen[:, :3] += rng.normal(0, 0.005, (3, 3))
        if k % 5 == 0:
            seen[0, :3] = 3.0               # a wild one
        if k >= 8:
            seen[1] = np.nan                # lost
            seen[2] = repeated if k > 8 else seen[2]     # noqa: F821
            repeated = seen[2].copy()       # noqa: F841, told again and again
        watch.on_sample(stamp + k * PERIOD, seen)
    assert np.linalg.norm(watch.position(0) - OBJECTS[0, :3]) < 0.006
    assert watch.position(1) is None and watch.position(2) is None
    assert watch.last(1) is None            # nobody had asked while it was seen
    assert not watch.moving(0)
    watch.at(stamp + 60 * PERIOD)           # a tracker that says nothing more
    assert watch.position(0) is None and np.linalg.norm(watch.last(0) - OBJECTS[0, :3]) < 0.006


def test_an_object_that_rolls_is_seen_to_move():
    watch = ObjectWatch()
    for k in range(20):
        watch.on_sample(10**9 + k * PERIOD, OBJECTS + np.array([0.002 * k, 0, 0, 0, 0, 0, 0]))
    assert watch.moving(0)


def test_the_baskets_surface_is_the_simulated_one():
    def height(x, y):
        """Of the highest of the simulated boxes at a point, by its top face."""
        out = []
        for position, half, (w, a, b, _) in sim.BASKET_BOXES:
            tilt = 2 * math.atan2(a if a else b, w)
            along = (x if b else y) if (a or b) else 0.0
            origin = position[0] if b else position[1]
            s, c = math.sin(tilt), math.cos(tilt)
            s, c = (s, c) if c > 0 else (-s, -c)
            rise = -(along - origin) * s / c if b else (along - origin) * s / c
            if a or b:
                if abs(along - origin) > half[0 if b else 1]:
                    continue
            out.append(position[2] + half[2] / c + (rise if a or b else 0.0))
        return max(out) + sim.BASKET_ORIGIN[2]
    for x, y in np.random.default_rng(1).uniform(-0.3, 0.3, (50, 2)):      # the basket's body is turned by a quarter
        assert basket.surface_z(basket.CENTRE + [y, x]) == pytest.approx(height(x, y), abs=0.002)


def test_fingers_keep_clear_of_slopes_and_of_other_objects():
    middle, wall = basket.CENTRE, basket.CENTRE + [0.0, 0.15]
    assert basket.lowest_pinch(middle, 0.0) == pytest.approx(basket.FLOOR_Z + 0.019, abs=1e-6)
    across, along = basket.lowest_pinch(wall, 0.0), basket.lowest_pinch(wall, np.pi / 2)   # fingers up the slope, abreast
    assert across > along + 0.005 > basket.lowest_pinch(middle, 0.0) + 0.005
    beside = np.array([middle + [0.0, 0.053]])
    assert basket.finger_room(middle, 0.0, beside) == 0.0 and basket.finger_room(middle, np.pi / 2, beside) > 0.03
    assert basket.finger_room(middle, 0.0, np.zeros((0, 2))) == math.inf


def drops(seed: int) -> np.ndarray:
    point = Point()
    runner = ResetRunner(point.routine('stir', seed), point.command, point.place, point.senses)
    out = []
    while not runner.done:
        point.senses.on_objects(point.stamp, OBJECTS + 1e-6 * (point.stamp // PERIOD % 7))
        runner.on_pose(point.stamp, point.pose())
        if runner.phase.startswith('release') and (not out or runner.phase != out[-1][0]):
            out.append((runner.phase, *point.position[:2]))
    assert sorted(o[0] for o in out) == ['release blue', 'release green', 'release red']
    return np.array([o[1:] for o in out])


def test_every_object_is_dropped_somewhere_else_each_time():
    a, b = drops(1), drops(2)
    for d in (a, b):
        assert np.abs(d - basket.CENTRE).max() < DROP_HALF_M + 0.011
    assert np.abs(a - b).max() > 0.02


@pytest.mark.parametrize(['change', 'why'], [
    ({0: [0.601, 0.002, 0.12]}, 'red is still on blue after 3 tries'),       # blue is the second, in the middle
    ({1: [0.6, 0.14, 0.09]}, 'green is still at a wall after 3 tries'),
    ({2: [np.nan] * 3}, 'blue is not seen by the tracker after 3 tries'),
])
def test_a_reset_that_fails_says_of_what(change, why):
    point = Point()
    point.objects = OBJECTS[[0, 2, 1]].copy()
    for i, position in change.items():
        point.objects[i, :3] = position
    with pytest.raises(ResetError) as e:
        point.run('stir')
    assert str(e.value) == why and e.value.kind == 'objects'


def test_without_a_tracker_nothing_is_touched():
    point = Point()
    point.objects = np.full((3, 7), np.nan)
    with pytest.raises(ResetError, match='no fresh poses'):
        point.run('stir')
    assert point.position[2] >= 0.19


def test_what_cannot_be_moved_is_no_reset():
    point = Point()
    point.senses.on_gripper(254.0)      # the fingers close on nothing
    with pytest.raises(ResetError, match='red could not be moved; green could not be moved; blue could not be moved'):
        point.run('stir')


def test_too_many_force_stops_end_a_reset():
    point = Point()
    routine = ROUTINES['stir'](1, 3, point.senses, Limits())
    point.senses.on_pinch(point.stamp, point.pose())
    next(routine)
    for _ in range(FORCE_STOPS):
        assert routine.throw(ForceStop('force_limit:21 N'))
    with pytest.raises(ForceStop):
        routine.throw(ForceStop('force_limit:21 N'))


def test_the_robot_alone_takes_a_stack_in_a_corner_apart():
    cell = SimulatedCell(CellConfig.load(CONFIG), physics='fast', triplet=4)
    cell.reset(4, 7)
    low = basket.FLOOR_Z
    poses = np.array(cell.world.sample('objects')['poses'])
    poses[:, :3] = [[0.515, 0.085, low + 0.09], [0.70, -0.13, low + 0.06], [0.515, 0.085, low + 0.03]]
    cell.world.set_objects(poses)
    cell.world.advance(1_000_000_000)
    before = np.array(cell.world.sample('objects')['poses'])[:, :3]
    assert before[0, 2] - before[2, 2] > 0.025 and basket.off_floor(before[1, :2]) > 0.0
    rng = np.random.default_rng(0)

    def tracker(stamp, poses):
        told = poses.copy()
        told[:, :3] += rng.normal(0.0, 0.005, (3, 3))
        told[rng.random(3) < 0.1] = np.nan
        return told
    cell.stir(7, tracker)
    after = np.array(cell.world.sample('objects')['poses'])[:, :3]
    assert max(basket.off_floor(p) for p in after[:, :2]) < 0.005
    assert all(np.linalg.norm(after[i, :2] - after[j, :2]) > 0.03 for i, j in ((0, 1), (0, 2), (1, 2)))
    assert (np.linalg.norm(after[:, :2] - before[:, :2], axis=1) > 0.02).all()


def test_senses_measure_against_the_tare():
    senses = Senses()
    for _ in range(10):
        senses.on_wrench([0.0, 0.0, 5.0])
    senses.tare()
    senses.on_wrench([3.0, 4.0, 5.0])
    senses.on_wrench([0.0, 0.0, 5.0])
    assert senses.push_n() == pytest.approx(5.0) and senses.push_n() == 0.0

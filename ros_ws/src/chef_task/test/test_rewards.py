# SPDX-License-Identifier: Apache-2.0
"""Rewards at states whose values were worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chef_task.rewards import BASKET_FLOOR_M, TASKS, RewardInputs, rewards, shaped
from chef_task.spaces import GRASP_INWARD, GRASP_NONE, GRASP_OUTWARD

BLUE = np.array([0.6, 0.05, 0.07])


def reward(task, red=(0.6, -0.05, 0.07), blue=BLUE, pinch=(0.6, 0.0, 0.3), gripper=0, grasp=GRASP_NONE):
    x = RewardInputs(np.array(red), np.array(blue), np.array(pinch), np.array(gripper), np.array(grasp))
    return float(rewards(x)[TASKS.index(task)])


def test_shaping_is_one_at_zero_and_a_twentieth_at_the_margin():
    assert shaped(0.0, 0.15) == 1.0
    assert shaped(0.15, 0.15) == pytest.approx(0.05)
    # half the margin: 1 - tanh(2.1786 / 2)^2 = 1 - 0.79658^2
    assert shaped(0.075, 0.15) == pytest.approx(0.3655, abs=1e-4)


@pytest.mark.parametrize('register, value', [(0, 1.0), (255, 0.0), (51, 0.8)])
def test_open(register, value):
    assert reward('open', gripper=register) == pytest.approx(value)


def test_reach_grasp():
    red = np.array([0.6, 0.0, 0.07])
    # within 20 mm, gripper open, not grasped: reach 1, grasp 0.5 * 0.05
    assert reward('reach_grasp', red, pinch=red + [0, 0, 0.019]) == pytest.approx(0.5 + 0.5 * 0.025)
    # closed on nothing: grasp 0.5
    assert reward('reach_grasp', red, pinch=red, gripper=255) == pytest.approx(0.75)
    assert reward('reach_grasp', red, pinch=red, gripper=120, grasp=GRASP_INWARD) == 1.0
    # an object held from inside is no grasp: closing 0.5 * shaped(135, 255)
    closing = 0.5 * (1 - np.tanh(135 / 255 * np.arctanh(np.sqrt(0.95))) ** 2)
    assert reward('reach_grasp', red, pinch=red, gripper=120, grasp=GRASP_OUTWARD) == pytest.approx(
        0.5 + 0.5 * closing)
    # far away a grasp does not count: half of reach 0.05
    assert reward('reach_grasp', red, pinch=red + [0.15, 0, 0], grasp=GRASP_INWARD) == pytest.approx(0.025)


@pytest.mark.parametrize('height_mm, value', [(0, 0), (55, 0), (77.5, 0.5), (100, 1), (130, 1)])
def test_lift_is_linear_from_55_to_100_mm(height_mm, value):
    red = (0.6, 0.0, BASKET_FLOOR_M + height_mm / 1000)
    assert reward('lift', red) == pytest.approx(value, abs=1e-6)


def test_lift_counts_only_in_the_workspace():
    height = BASKET_FLOOR_M + 0.12                  # the centre's height
    assert reward('lift', (0.6 + 0.124, 0.0, height)) == pytest.approx(1.0)
    assert reward('lift', (0.6 + 0.126, 0.0, height)) == 0.0


def test_place():
    goal = BLUE + [0, 0, 0.04]
    assert reward('place', goal) == 1.0
    assert reward('place', goal + [0.0, 0.009, 0.0]) == 1.0
    assert reward('place', goal + [0.2, 0.0, 0.0]) == pytest.approx(0.05)
    assert reward('place', (0.6, 0.05, 0.0999)) == 0.0      # too low, though near


@pytest.mark.parametrize('offset, grasp, value', [
    ((0, 0, 0.04), GRASP_NONE, 1), ((0, 0, 0.04), GRASP_OUTWARD, 1), ((0, 0, 0.04), GRASP_INWARD, 0),
    ((0.029, 0, 0.04), GRASP_NONE, 1), ((0.022, 0.022, 0.04), GRASP_NONE, 0),
    ((0, 0, 0.049), GRASP_NONE, 1), ((0, 0, 0.031), GRASP_NONE, 1),
    ((0, 0, 0.051), GRASP_NONE, 0), ((0, 0, 0.029), GRASP_NONE, 0)])
def test_stack(offset, grasp, value):
    assert reward('stack', BLUE + offset, grasp=grasp) == value


@pytest.mark.parametrize('distance, value', [(0.099, 0), (0.101, 1)])
def test_stack_leave_needs_the_tool_away(distance, value):
    red = BLUE + [0, 0, 0.04]
    assert reward('stack', red, pinch=red) == 1
    assert reward('stack_leave', red, pinch=red + [0, 0, distance]) == value
    assert reward('stack_leave', (0.6, -0.05, 0.07), pinch=(0.6, 0.0, 0.5)) == 0


places = arrays(np.float64, (5, 3), elements=st.floats(-2, 2))


@given(places, places, places, arrays(np.float64, 5, elements=st.floats(0, 255)),
       arrays(np.int64, 5, elements=st.sampled_from([1, 2, 3])))
def test_in_range_and_alike_in_batches(red, blue, pinch, gripper, grasp):
    batch = rewards(RewardInputs(red, blue, pinch, gripper, grasp))
    assert batch.shape == (5, len(TASKS)) and batch.dtype == np.float32
    assert np.all((batch >= 0) & (batch <= 1))
    one_by_one = [rewards(RewardInputs(*x)) for x in zip(red, blue, pinch, gripper, grasp)]
    np.testing.assert_array_equal(batch, np.stack(one_by_one))
    stack, leave = batch[:, TASKS.index('stack')], batch[:, TASKS.index('stack_leave')]
    assert np.all(leave <= stack)

# SPDX-License-Identifier: Apache-2.0
"""The velocity controller and its kinematics, on the Sawyer's URDF: no ROS, no simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_control.kinematics import Kinematics
from chef_control.velocity_control import ControllerConfig, VelocityController
from chef_sim.world import HOME
from chef_task.limits import Limits
from chef_task.spaces import CONTROL_PERIOD_NS, JOINTS, LINEAR_SPEED_M_S, WRIST_SPEED_RAD_S

URDF = Path(__file__).resolve().parents[4] / 'config' / 'robots' / 'sawyer.urdf'
KINEMATICS = Kinematics(URDF, JOINTS)
LOWER, UPPER = KINEMATICS.joint_limits
SPEED = np.array(Limits().joint_velocity_rad_s)
PERIOD = CONTROL_PERIOD_NS * 1e-9
STILL = np.zeros(5)
SOLVER = 1e-5  # rad/s and m/s, more than the solver's tolerance
AXES = range(3)
SIDES = (-1, 1)

fast = settings(max_examples=50, deadline=None)
finite = {'allow_nan': False, 'allow_infinity': False}
actions = st.lists(st.floats(-1, 1, **finite), min_size=5, max_size=5).map(np.array)
shares = st.lists(st.floats(0, 1, **finite), min_size=7, max_size=7).map(np.array)


def controller(limits: Limits | None = None, **config) -> VelocityController:
    config = ControllerConfig(**{'home_rad': tuple(HOME), **config})
    return VelocityController(KINEMATICS, limits or Limits(), config)


def unit(axis: int, value: float = 1.0) -> np.ndarray:
    a = np.zeros(5)
    a[axis] = value
    return a


def wrist_at(angle: float) -> np.ndarray:
    """HOME, the gripper turned to `angle` from its neutral rotation, positive about the base's z."""
    q = HOME.copy()
    q[-1] = -angle
    return q


def tilt(q) -> float:
    """Angle between the tool's axis and down, rad."""
    return float(np.arccos(np.clip(-KINEMATICS.pose(q, 'tcp')[1][2, 2], -1, 1)))


def integrate(c: VelocityController, action, q, seconds: float, source: str = 'episode') -> np.ndarray:
    for _ in range(round(seconds / PERIOD)):
        q = q + c.joint_velocity(action, q, source) * PERIOD
    return q


def box_beside_home(name: str, axis: int, side: int) -> Limits:
    """Limits whose box `name` HOME's pinch has left by 1 cm, on one side of one axis."""
    size = np.full(3, 0.2)
    centre = KINEMATICS.pose(HOME, 'pinch')[0].copy()
    centre[axis] -= side * (size[axis] / 2 + 0.01)
    return Limits(**{f'{name}_centre_m': tuple(centre), f'{name}_size_m': tuple(size)})


def postures_near_limits(share, margin: float) -> np.ndarray:
    """From shares in [0, 1]: half of them at the lower, half at the upper limit, up to `margin` inside."""
    return np.where(share < 0.5, LOWER + margin * 2 * share, UPPER - margin * 2 * (1 - share))


# ---- the workspace box

@pytest.mark.parametrize('name, source', [('workspace', 'episode'), ('reset', 'reset')])
@pytest.mark.parametrize('axis', AXES)
@pytest.mark.parametrize('side', SIDES)
def test_only_the_axis_that_would_leave_the_box_further_is_zeroed(name, source, axis, side):
    action = np.full(5, 0.4)
    action[axis] = 0.4 * side
    linear = controller(box_beside_home(name, axis, side)).tool_velocity(action, HOME, source)[:3]
    expected = action[:3] * LINEAR_SPEED_M_S
    expected[axis] = 0.0
    np.testing.assert_allclose(linear, expected, atol=1e-12)


@pytest.mark.parametrize('name, source', [('workspace', 'episode'), ('reset', 'reset')])
@pytest.mark.parametrize('axis', AXES)
@pytest.mark.parametrize('side', SIDES)
def test_outside_the_box_the_way_back_is_free(name, source, axis, side):
    linear = controller(box_beside_home(name, axis, side)).tool_velocity(unit(axis, -side), HOME, source)[:3]
    np.testing.assert_allclose(linear, unit(axis, -side)[:3] * LINEAR_SPEED_M_S, atol=1e-12)


@pytest.mark.parametrize('axis', AXES)
@pytest.mark.parametrize('side', SIDES)
def test_a_reset_ignores_the_episodes_box_and_an_episode_the_resets(axis, side):
    wanted = side * LINEAR_SPEED_M_S
    outside_workspace = controller(box_beside_home('workspace', axis, side))
    assert outside_workspace.tool_velocity(unit(axis, side), HOME, 'reset')[axis] == pytest.approx(wanted)
    around_home = {'workspace_centre_m': tuple(KINEMATICS.pose(HOME, 'pinch')[0])}
    limits = Limits(**{**box_beside_home('reset', axis, side).to_dict(), **around_home})
    assert controller(limits).tool_velocity(unit(axis, side), HOME)[axis] == pytest.approx(wanted)


def test_above_the_benchmarks_box_only_a_reset_goes_further_up():
    c = controller()
    assert c.tool_velocity(unit(2), HOME)[2] == 0
    assert c.tool_velocity(unit(2), HOME, 'reset')[2] == pytest.approx(LINEAR_SPEED_M_S)


@pytest.mark.parametrize('axis, side', [(0, 1), (0, -1), (1, 1), (1, -1), (2, -1)])
def test_a_held_command_stops_at_the_side_of_the_box(axis, side):
    limits = Limits()
    q = integrate(controller(limits), unit(axis, side), HOME, 6.0)
    travelled = KINEMATICS.pose(q, 'pinch')[0][axis]
    edge = limits.workspace_centre_m[axis] + side * limits.workspace_size_m[axis] / 2
    assert 0 <= side * (travelled - edge) <= 1.5 * LINEAR_SPEED_M_S * PERIOD


@fast
@given(actions)
def test_the_wanted_speed_is_bounded_and_keeps_its_direction(action):
    linear = controller().tool_velocity(action, HOME, 'reset')[:3]
    assert np.linalg.norm(linear) <= LINEAR_SPEED_M_S + 1e-12
    expected = action[:3] / max(1.0, np.linalg.norm(action[:3])) * LINEAR_SPEED_M_S
    np.testing.assert_allclose(linear, expected, atol=1e-9)


# ---- the wrist

@pytest.mark.parametrize('side', SIDES)
def test_the_wrist_does_not_turn_further_out_of_its_range_but_turns_back(side):
    c = controller()
    q = wrist_at(side * (np.pi / 2 + 0.01))
    assert c.tool_velocity(unit(3, side), q)[5] == 0
    assert c.tool_velocity(unit(3, -side), q)[5] == pytest.approx(-side * WRIST_SPEED_RAD_S)


@pytest.mark.parametrize('side', SIDES)
def test_the_wrist_turns_freely_within_its_range(side):
    q = wrist_at(side * (np.pi / 2 - 0.01))
    assert controller().tool_velocity(unit(3, side), q)[5] == pytest.approx(side * WRIST_SPEED_RAD_S)


@pytest.mark.parametrize('side', SIDES)
def test_a_held_turn_stops_at_the_end_of_the_wrists_range(side):
    q = integrate(controller(), unit(3, side), HOME, 4.0)
    assert 0 <= side * -q[-1] - np.pi / 2 <= 1.5 * WRIST_SPEED_RAD_S * PERIOD


def test_the_wrists_range_is_the_limits():
    c = controller(Limits(wrist_range_rad=0.2))
    assert c.tool_velocity(unit(3), wrist_at(0.21))[5] == 0
    assert c.tool_velocity(unit(3), wrist_at(0.19))[5] > 0


# ---- the tool's tilt

def test_home_is_level():
    assert tilt(HOME) < 1e-6
    assert np.abs(controller().tool_velocity(STILL, HOME)).max() < 1e-6


@pytest.mark.parametrize('joint, angle', [(1, 0.1), (3, -0.15), (4, 0.2), (5, 0.3), (5, -0.3)])
def test_a_tilted_tool_returns_to_down(joint, angle):
    q = HOME.copy()
    q[joint] += angle
    before = tilt(q)
    assert before > 0.05
    after = tilt(integrate(controller(), STILL, q, 2.0))
    assert 0.1 * before < after < 0.3 * before  # exp(-0.8 x 2) = 0.20


def test_a_tilt_is_levelled_to_nothing_in_time():
    q = HOME.copy()
    q[5] += 0.3
    assert tilt(integrate(controller(), STILL, q, 8.0)) < 0.01


def test_levelling_does_not_turn_the_tool_about_the_vertical():
    q = HOME + np.array([0, 0.1, 0.1, 0, 0.2, 0.2, 0])
    angular = controller().tool_velocity(STILL, q)[3:]
    assert np.linalg.norm(angular[:2]) > 0.01 and angular[2] == 0


def test_no_levelling_without_gain():
    q = HOME.copy()
    q[5] += 0.3
    assert not controller(orientation_gain=0.0).tool_velocity(STILL, q).any()


# ---- the joint velocities

@pytest.mark.parametrize('axis', range(4))
@pytest.mark.parametrize('side', SIDES)
def test_at_home_the_tool_moves_as_commanded(axis, side):
    c = controller()
    twist = KINEMATICS.jacobian(HOME) @ c.joint_velocity(unit(axis, side), HOME, 'reset')
    rows, speed = (slice(0, 3), LINEAR_SPEED_M_S) if axis < 3 else (slice(3, 6), WRIST_SPEED_RAD_S)
    wanted = side * unit(axis)[:3] * speed if axis < 3 else np.array([0, 0, side * speed])
    assert np.linalg.norm(twist[rows] - wanted) < 0.15 * speed


@fast
@given(actions, shares, st.sampled_from([0.0, 0.01, 0.05, 0.5]), st.sampled_from(['episode', 'reset']))
def test_joint_velocities_keep_to_speed_and_position_limits_near_the_limits(action, share, margin, source):
    c = controller()
    q = postures_near_limits(share, margin)
    for _ in range(10):
        v = c.joint_velocity(action, q, source)
        assert np.all(np.abs(v) <= SPEED + SOLVER)
        q = q + v * PERIOD
        assert np.all(q >= LOWER - SOLVER) and np.all(q <= UPPER + SOLVER)


@fast
@given(actions, shares)
def test_joint_velocities_keep_to_speed_and_position_limits_anywhere(action, share):
    c = controller()
    q = LOWER + share * (UPPER - LOWER)
    v = c.joint_velocity(action, q, 'reset')
    assert np.all(np.abs(v) <= SPEED + SOLVER)
    assert np.all(q + v * PERIOD >= LOWER - SOLVER) and np.all(q + v * PERIOD <= UPPER + SOLVER)


@fast
@given(actions, st.integers(0, 6), st.sampled_from(SIDES), st.floats(0, 0.0099))
def test_a_joint_within_the_margin_is_led_out_of_it(action, joint, side, distance):
    q = HOME.copy()
    q[joint] = (LOWER if side < 0 else UPPER)[joint] - side * distance
    v = controller().joint_velocity(action, q, 'reset')[joint]
    room = Limits().joint_margin_rad - distance
    assert -side * v >= Limits().joint_velocity_scale * room / PERIOD - SOLVER


def test_slower_joints_are_obeyed():
    slow = Limits(joint_velocity_rad_s=(0.02,) * 7)
    full = controller().joint_velocity(unit(0), HOME)
    v = controller(slow).joint_velocity(unit(0), HOME)
    assert np.abs(full).max() > 0.03
    assert np.abs(v).max() == pytest.approx(0.02, abs=SOLVER)


def elbow_out() -> np.ndarray:
    """HOME with the elbow moved aside, the tool about where it was."""
    null = np.linalg.svd(KINEMATICS.jacobian(HOME))[2][-1]
    q = HOME.copy()
    for _ in range(60):
        j = KINEMATICS.jacobian(q)
        step = np.linalg.svd(j)[2][-1]
        q = q + 0.01 * step * np.sign(step @ null)
    return q


def test_the_nullspace_drift_goes_home_and_does_not_move_the_tool():
    c = controller(orientation_gain=0.0)
    q = elbow_out()
    assert np.linalg.norm(q - HOME) > 0.3
    v = c.joint_velocity(STILL, q)
    assert np.abs(KINEMATICS.jacobian(q) @ v).max() <= 1e-4 + SOLVER
    assert np.linalg.norm(v) > 0.05 and v @ (HOME - q) > 0
    home_again = integrate(c, STILL, q, 4.0)
    assert np.linalg.norm(home_again - HOME) < 0.5 * np.linalg.norm(q - HOME)
    moved = KINEMATICS.pose(home_again, 'tcp')[0] - KINEMATICS.pose(q, 'tcp')[0]
    assert np.linalg.norm(moved) < 5e-3


def test_at_home_without_a_command_nothing_moves():
    assert np.abs(controller().joint_velocity(STILL, HOME)).max() < SOLVER


def test_without_nullspace_gain_nothing_drifts():
    c = controller(nullspace_gain=0.0, orientation_gain=0.0)
    assert np.abs(c.joint_velocity(STILL, elbow_out())).max() < SOLVER


def test_calls_do_not_depend_on_earlier_calls_and_leave_their_arguments_alone():
    c = controller()
    action, q = np.full(5, 0.5), HOME.copy()
    first = c.joint_velocity(action, q)
    c.joint_velocity(-action, q + 0.1)
    np.testing.assert_array_equal(c.joint_velocity(action, q), first)
    np.testing.assert_array_equal(action, np.full(5, 0.5))
    np.testing.assert_array_equal(q, HOME)


def test_an_action_beyond_one_is_clipped():
    c = controller()
    np.testing.assert_allclose(c.joint_velocity(unit(0, 30.0), HOME), c.joint_velocity(unit(0), HOME))


@pytest.mark.parametrize('action', [np.full(5, np.nan), unit(2, np.inf), unit(4, np.nan), np.zeros(4),
                                    np.zeros(6), np.zeros((1, 5)), 0.0])
def test_a_bad_action_is_refused(action):
    with pytest.raises(ValueError, match='action'):
        controller().joint_velocity(action, HOME)


@pytest.mark.parametrize('q', [np.full(7, np.nan), np.append(HOME[:6], np.inf), HOME[:6],
                               np.append(HOME, 0.0), HOME[None], 0.0])
def test_bad_joint_positions_are_refused(q):
    with pytest.raises(ValueError, match='joint positions'):
        controller().joint_velocity(STILL, q)


# ---- the gripper

@pytest.mark.parametrize('value, bang_bang', [(-1, -1), (-0.01, -1), (0, 0), (0.3, 1), (1, 1)])
def test_the_gripper_closes_at_full_or_at_the_commanded_speed(value, bang_bang):
    assert controller(gripper='bang_bang').gripper_velocity(unit(4, value)) == bang_bang
    assert controller(gripper='velocity').gripper_velocity(unit(4, value)) == value


def test_the_gripper_does_not_move_the_arm():
    c = controller()
    np.testing.assert_array_equal(c.joint_velocity(unit(4), HOME), c.joint_velocity(unit(4, -1), HOME))


# ---- kinematics

def finite_differences(k: Kinematics, q, frame: str, step: float = 1e-6) -> np.ndarray:
    columns = []
    _, rotation = k.pose(q, frame)
    for i in range(q.size):
        d = np.zeros(q.size)
        d[i] = step
        (p1, r1), (p0, r0) = k.pose(q + d, frame), k.pose(q - d, frame)
        skew = (r1 - r0) / (2 * step) @ rotation.T
        columns.append([*(p1 - p0) / (2 * step), skew[2, 1], skew[0, 2], skew[1, 0]])
    return np.array(columns).T


@fast
@given(shares, st.sampled_from(['tcp', 'pinch']))
def test_the_jacobian_is_the_derivative_of_the_pose(share, frame):
    q = LOWER + share * (UPPER - LOWER)
    expected = finite_differences(KINEMATICS, q, frame)
    np.testing.assert_allclose(KINEMATICS.jacobian(q, frame), expected, rtol=0, atol=1e-5)


def test_home_is_where_the_benchmark_starts():
    position, rotation = KINEMATICS.pose(HOME, 'pinch')
    np.testing.assert_allclose(position, [0.6, 0, 0.3], atol=1e-6)
    np.testing.assert_allclose(rotation, np.diag([1, -1, -1]), atol=1e-6)


def test_joints_come_in_the_order_asked_for():
    order = [3, 0, 6, 1, 5, 2, 4]
    k = Kinematics(URDF, tuple(JOINTS[i] for i in order))
    np.testing.assert_array_equal(k.joint_limits, (LOWER[order], UPPER[order]))
    np.testing.assert_allclose(k.pose(HOME[order])[0], KINEMATICS.pose(HOME)[0])
    np.testing.assert_allclose(k.jacobian(HOME[order]), KINEMATICS.jacobian(HOME)[:, order])


def test_a_returned_pose_survives_the_next_call():
    position, rotation = KINEMATICS.pose(HOME)
    kept = position.copy(), rotation.copy()
    KINEMATICS.pose(HOME + 0.3)
    np.testing.assert_array_equal(position, kept[0])
    np.testing.assert_array_equal(rotation, kept[1])


def refused(urdf, joints=JOINTS) -> str:
    """The message of the ValueError, which must be of one line and name the file."""
    with pytest.raises(ValueError) as e:
        Kinematics(urdf, joints)
    message = str(e.value)
    assert '\n' not in message and message.startswith(f'{urdf}: ')
    return message


def test_a_missing_urdf_is_refused(tmp_path):
    refused(tmp_path / 'absent.urdf')


@pytest.mark.parametrize('text', [
    pytest.param('', id='empty'),
    pytest.param('joints: 7', id='not_xml'),
    pytest.param('<robot name="a"><link', id='cut'),
    pytest.param('<mujoco/>', id='another_root'),
    pytest.param('<robot name="a"></robot>', id='no_links'),
])
def test_a_file_that_is_no_urdf_is_refused(tmp_path, text):
    path = tmp_path / 'bad.urdf'
    path.write_text(text)
    refused(path)


@pytest.mark.parametrize('frame', ['tcp', 'pinch'])
def test_a_urdf_without_a_needed_frame_is_refused_by_the_frames_name(tmp_path, frame):
    path = tmp_path / 'frameless.urdf'
    path.write_text(URDF.read_text().replace(f'"{frame}"', '"other"'))
    assert f"'{frame}'" in refused(path)


def test_a_urdf_without_a_joint_is_refused_by_the_joints_name():
    assert "'right_j9'" in refused(URDF, (*JOINTS[:6], 'right_j9'))


def test_a_urdf_whose_tool_is_moved_by_a_joint_that_is_not_named_is_refused():
    assert "'right_j6' moves the tool and is not among the arm's 6" in refused(URDF, JOINTS[:6])

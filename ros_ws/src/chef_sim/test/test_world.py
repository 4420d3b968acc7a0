# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from chef_task import spaces
from chef_task.geometry import compose

from chef_sim.placement import PlacementError, _in_order
from chef_sim.world import HOME, PINCH_FROM_TCP, STREAMS, World

PERIOD = spaces.CONTROL_PERIOD_NS
AWAY = [[0.6, 0.15, 0.3, 1, 0, 0, 0], [0.5, 1.5, 0.5, 1, 0, 0, 0], [0.7, -1.5, 0.5, 1, 0, 0, 0]]


def drive(world, periods, arm=None, gripper=0.0):
    for _ in range(periods):
        world.command_arm(np.zeros(7) if arm is None else arm, world.stamp_ns)
        world.command_gripper(gripper, world.stamp_ns)
        world.advance(PERIOD)


def test_samples_have_the_shapes_of_the_contract(world):
    shapes = {s: {k: np.shape(v) for k, v in world.sample(s).items() if k not in ('stream', 'stamp')}
              for s in STREAMS}
    assert shapes == {
        'joints': {'position': (7,), 'velocity': (7,), 'effort': (7,)},
        'tcp': {'pose': (7,), 'twist': (6,)},
        'gripper': {'position': (), 'velocity': (), 'grasp': ()},
        'wrench': {'force': (3,), 'torque': (3,)},
        'objects': {'poses': (3, 7)},
        'render': {'qpos': (36,), 'triplet': ()},
    }
    with pytest.raises(ValueError, match="stream 'smell' does not exist"):
        world.sample('smell')


def test_home_faces_down_over_the_basket(world):
    pinch = compose(world.sample('tcp')['pose'], PINCH_FROM_TCP)
    np.testing.assert_allclose(pinch[:3], [0.6, 0.0, 0.3], atol=1e-6)
    np.testing.assert_allclose(np.abs(pinch[3:]), [0, 1, 0, 0], atol=1e-6)


def test_pinch_follows_from_tcp(world):
    rng = np.random.default_rng(0)
    for _ in range(20):
        world.set_arm(HOME + rng.uniform(-0.8, 0.8, 7))
        pinch = compose(world.sample('tcp')['pose'], PINCH_FROM_TCP)
        np.testing.assert_allclose(pinch[:3], world.pinch_position, atol=1e-9)


def test_same_seed_and_commands_give_the_same_bits():
    ends = []
    for _ in range(2):
        w = World(3, 'fast', seed=4)
        rng = np.random.default_rng(1)
        for _ in range(20):
            drive(w, 1, rng.uniform(-0.2, 0.2, 7), 1.0)
        ends.append(w.sample('render')['qpos'])
    assert ends[0] == ends[1]


def test_velocity_is_followed(world):
    before = np.array(world.sample('joints')['position'])
    velocity = np.array([0.1, -0.05, 0.1, 0.05, -0.1, 0.1, 0.2])
    drive(world, 20, velocity)
    joints = world.sample('joints')
    np.testing.assert_allclose(joints['velocity'], velocity, atol=0.01)
    np.testing.assert_allclose(np.array(joints['position']) - before, velocity, atol=0.03)


def test_twist_is_the_derivative_of_the_pose(world):
    drive(world, 10, np.full(7, 0.1))
    a = world.sample('tcp')
    drive(world, 1, np.full(7, 0.1))
    b = world.sample('tcp')
    speed = (np.array(b['pose'][:3]) - a['pose'][:3]) / 0.05
    np.testing.assert_allclose(speed, (np.array(a['twist'][:3]) + b['twist'][:3]) / 2, atol=2e-3)


@pytest.mark.parametrize('late_ns', [-10**12, 0, 60_000_000])
def test_watchdog_stops_an_actuator_after_100_ms(world, late_ns):
    """Also for a stamp from the future (negative lateness)."""
    world.command_arm(np.full(7, 0.2), world.stamp_ns - late_ns)
    world.command_gripper(1.0, world.stamp_ns)
    world.advance(2 * PERIOD)
    act = world.data.act.copy()
    assert act[0] - HOME[0] == pytest.approx(0.2 * (0.1 - max(late_ns, 0) * 1e-9), abs=1e-9)
    assert act[7] == pytest.approx(25.5)
    world.advance(20 * PERIOD)
    np.testing.assert_array_equal(world.data.act, act)
    assert np.abs(world.sample('joints')['velocity']).max() < 1e-2


def test_a_blocked_joint_does_not_wind_up(world):
    world.set_objects(AWAY)
    for _ in range(40):  # presses the gripper through the floor of the basket
        drive(world, 1, [0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    lead = np.abs(world.data.act[:7] - world.data.qpos[:7]).max()
    assert lead < 0.25
    assert np.linalg.norm(world.sample('wrench')['force']) > 20


def test_wrench_at_rest_is_near_zero_in_any_posture(world):
    world.set_objects(AWAY)
    for posture in (HOME, HOME + [0, 0.2, 0, -0.3, 0, 0.9, 1.0]):
        world.set_arm(posture)
        drive(world, 20)
        wrench = world.sample('wrench')
        assert np.linalg.norm(wrench['force']) < 0.1
        assert np.linalg.norm(wrench['torque']) < 0.05


def test_gripper_closes_in_about_a_second_and_holds_nothing(world):
    world.set_objects(AWAY)
    assert world.sample('gripper') == {'stream': 'gripper', 'stamp': world.stamp_ns, 'position': 0,
                                       'velocity': pytest.approx(0, abs=1), 'grasp': spaces.GRASP_NONE}
    drive(world, 10, gripper=1.0)
    half = world.sample('gripper')
    assert 90 < half['position'] < 160 and 200 < half['velocity'] < 300
    drive(world, 20, gripper=1.0)
    closed = world.sample('gripper')
    assert closed['position'] >= 253 and closed['grasp'] == spaces.GRASP_NONE
    drive(world, 30, gripper=-1.0)
    assert world.sample('gripper')['position'] <= 2


def test_an_object_between_the_fingers_is_grasped(world):
    poses = np.array(AWAY, float)
    poses[1, :3] = world.pinch_position  # the cube
    held = []
    for _ in range(30):
        if not held:
            world.set_objects(poses)  # held in the air until the fingers have it
        drive(world, 1, gripper=1.0)
        gripper = world.sample('gripper')
        held += [gripper['position']] if gripper['grasp'] == spaces.GRASP_INWARD else []
    drive(world, 20, gripper=1.0)
    assert 80 < held[-1] < 160
    assert world.sample('objects')['poses'][1][2] == pytest.approx(0.3, abs=0.01)
    assert 1.5 < np.linalg.norm(world.sample('wrench')['force']) < 2.5  # 0.2 kg


def test_placing_leaves_arm_gripper_and_time_alone(world):
    drive(world, 10, np.full(7, 0.1), 1.0)
    robot, stamp, act = world.sample('render')['qpos'][:15], world.stamp_ns, world.data.act.copy()
    world.place(11)
    assert world.sample('render')['qpos'][:15] == robot
    assert world.stamp_ns == stamp
    np.testing.assert_array_equal(world.data.act, act)


def test_places_depend_on_the_seed_alone(world):
    def poses():
        return world.data.qpos[world.index.objects_qpos].tolist()
    world.place(7)
    first = poses()
    world.place(8)
    assert poses() != first
    drive(world, 5, np.full(7, 0.2), 1.0)
    world.place(7)
    assert poses() == first


def test_objects_at_rest_sleep_until_something_moves_them(world):
    world.place(7)
    drive(world, 10)
    assert world.data.ntree_awake == 1      # the arm's
    lying = world.data.qpos[world.index.objects_qpos].copy()
    before = world.sample('objects')['poses']
    drive(world, 1)
    np.testing.assert_array_equal(world.data.qpos[world.index.objects_qpos], lying)
    now = np.array(world.sample('objects')['poses'])        # as a tracker sees it: not twice the same
    assert 0 < np.abs(now - before).max() <= 2e-9
    lifted = lying.copy()
    lifted[0, 2] += 0.05
    world.set_objects(lifted)
    drive(world, 10)
    assert world.data.qpos[world.index.objects_qpos[0]][2] == pytest.approx(lying[0, 2], abs=2e-3)


def test_exact_physics_leave_nothing_out():
    w = World(1, 'exact', seed=2)
    drive(w, 10)
    assert w.data.ntree_awake == 4


@pytest.mark.parametrize('triplet', [1, 2, 3, 4, 5])
def test_placed_objects_are_spread_inside_the_basket_and_at_rest(triplet):
    w = World(triplet, 'fast', seed=100)
    found = []
    for seed in range(12):
        w.place(seed)
        before = np.array(w.sample('objects')['poses'])
        w.advance(4 * PERIOD)
        after = np.array(w.sample('objects')['poses'])
        assert np.linalg.norm(after[:, :3] - before[:, :3], axis=1).max() < 2e-3
        found.append(before[:, :3])
    p = np.array(found).reshape(-1, 3)
    assert (np.abs(p[:, :2] - [0.6, 0.0]) < 0.25).all()
    assert ((p[:, 2] > 0.055) & (p[:, 2] < 0.15)).all()
    assert (np.std(p[:, :2], axis=0) > 0.03).all()
    apart = np.linalg.norm(p.reshape(-1, 3, 3)[:, [0, 0, 1]] - p.reshape(-1, 3, 3)[:, [1, 2, 2]], axis=-1)
    assert apart.min() > 0.025


def test_an_arm_in_the_way_is_avoided_or_named(world, monkeypatch):
    world.set_objects(AWAY)
    drive(world, 30, [0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0])  # down into the basket
    world.place(3)
    world.advance(10_000_000)
    i, contact = world.index, world.data.contact
    pairs = contact.geom[contact.dist < -1e-3]
    assert not (i.robot_geom[pairs].any(axis=1) & i.object_geom[pairs].any(axis=1)).any()
    monkeypatch.setattr(world._placer, '_touched', lambda real: True)
    with pytest.raises(PlacementError, match='20 touched the arm'):
        world.place(3)


@pytest.mark.parametrize('third, fine', [([0.6, 0.1, 0.075], True), ([0.56, 0.02, 0.125], False),
                                         ([0.9, 0.0, 0.075], False), ([0.6, 0.1, 0.2], False)])
def test_scenes_that_are_stacked_already_are_not_in_order(third, fine):
    assert _in_order(np.array([[0.55, 0.0, 0.075], [0.65, 0.0, 0.075], third])) == fine


def test_exact_physics_settle_too():
    w = World(1, 'exact', seed=2)
    before = np.array(w.sample('objects')['poses'])
    w.advance(4 * PERIOD)
    assert np.linalg.norm((np.array(w.sample('objects')['poses']) - before)[:, :3], axis=1).max() < 2e-3


def test_triplets_change_while_the_arm_stays():
    w = World(1, 'fast', seed=0)
    drive(w, 5, np.full(7, 0.1), 1.0)
    robot = w.sample('render')['qpos'][:15]
    with pytest.raises(ValueError, match='triplet 6'):
        w.set_triplet(6, seed=0)
    assert w.triplet == 1
    w.set_triplet(5, seed=0)
    assert (w.sample('render')['triplet'], w.sample('render')['qpos'][:15]) == (5, robot)


def test_bad_input_is_refused(world):
    for bad in ([0.0] * 6, [float('nan')] * 7, [[0.0] * 7]):
        with pytest.raises(ValueError, match='7 finite'):
            world.command_arm(bad, 0)
        with pytest.raises(ValueError, match='7 finite'):
            world.set_arm(bad)
    with pytest.raises(ValueError, match='not a multiple'):
        world.advance(1)
    with pytest.raises(ValueError, match='seed'):
        world.place(-1)

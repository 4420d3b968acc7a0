# SPDX-License-Identifier: Apache-2.0
"""The simulated cell with exact physics beside what the public environment did (`./chef bench parity` wrote it down)."""

import json
from pathlib import Path

import mujoco
import numpy as np
import pytest

from chef_control.kinematics import Kinematics
from chef_control.reset import random_tool_pose, tool_yaw
from chef_control.simulated_samples import Samples
from chef_control.velocity_control import ControllerConfig, VelocityController
from chef_sim import cell as constants
from chef_sim.world import World
from chef_task import observation, spaces
from chef_task.cell import CellConfig

HERE = Path(__file__).resolve()
REFERENCE = HERE.parents[2] / 'chef_sim' / 'test' / 'public_reference.json'
CONFIG = HERE.parents[4] / 'config' / 'cells' / 'sim.yaml'
pytestmark = pytest.mark.skipif(not REFERENCE.is_file() or not CONFIG.is_file(), reason='not in the repository')
# Largest difference over ten steps of the hardest commands; docs/simulation.md has the same numbers.
BOUNDS = {'joint_angle': 2e-3, 'joint_velocity': 6e-3, 'joint_torque': 2e-2, 'pinch_pose': 6e-4, 'tcp_pose': 6e-4,
          'tcp_velocity': 4e-3, 'gripper_position': 1e-6, 'gripper_grasp': 0.0, 'wrist_force': 1e-2, 'wrist_torque': 3e-4}
SENT = 6e-3         # rad/s


@pytest.fixture(scope='module')
def reference():
    return json.loads(REFERENCE.read_text())


@pytest.fixture(scope='module')
def world():
    return World(1, 'exact', 0)


def test_the_models_options_objects_and_cameras_are_the_public_ones(reference, world):
    public, option = reference['model'], world.model.opt
    assert {k: float(getattr(option, k)) for k in public['option']} == public['option']
    assert option.gravity.tolist() == public['gravity']
    geoms = np.flatnonzero(world.index.object_geom & (world.model.geom_contype != 0))
    assert [sorted({tuple(np.round(world.model.geom_friction[g], 6)) for g in geoms}), sorted(
        {int(world.model.geom_condim[g]) for g in geoms})] == [[tuple(f) for f in public['object_friction']],
                                                               public['object_condim']]
    masses = world.model.body_mass[world.model.geom_bodyid[geoms]]
    np.testing.assert_allclose(masses, constants.OBJECT_MASS_KG)
    np.testing.assert_allclose(public['object_masses'], constants.OBJECT_MASS_KG, atol=2e-5)    # its markers weigh 0.01 g
    seen = World(1, 'exact', 0, visuals=True)
    mujoco.mj_kinematics(seen.model, seen.data)
    mujoco.mj_camlight(seen.model, seen.data)
    for name in spaces.CAMERAS:
        i = seen.model.camera(name).id
        assert seen.model.cam_fovy[i] == public['cameras'][name]['fovy']
        np.testing.assert_allclose(seen.data.cam_xpos[i], public['cameras'][name]['position'], atol=2e-5)
        np.testing.assert_allclose(seen.data.cam_xmat[i], public['cameras'][name]['axes'], atol=1e-3)


def test_the_arm_responds_to_commands_as_the_public_one(reference, world):
    """Joint velocities, and every observation of the robot for half a second, one command at a time."""
    config = CellConfig.load(CONFIG)
    controller = VelocityController(Kinematics(config.urdf, spaces.JOINTS), config.limits,
                                    ControllerConfig(config.home_rad, config.gripper))
    samples, worst = Samples(world, 'state'), dict.fromkeys([*BOUNDS, 'sent'], 0.0)
    for row in reference['responses']:
        action = np.array(row['action'])
        world.reset()
        world.set_objects(reference['away'])
        world.set_arm(row['joint_angle'])
        for step in row['steps']:
            sent = controller.joint_velocity(action, world.data.qpos[world.index.arm_qpos])
            worst['sent'] = max(worst['sent'], np.abs(sent - step['sent'][:7]).max())
            world.command_arm(sent, world.stamp_ns)
            world.command_gripper(controller.gripper_velocity(action), world.stamp_ns)
            world.advance(spaces.CONTROL_PERIOD_NS)
            joints, wrench = world.sample('joints'), world.sample('wrench')
            ours = observation.features({
                'joints': {k: np.array(joints[k]) for k in ('position', 'velocity', 'effort')},
                'wrench': {k: np.array(wrench[k]) for k in ('force', 'torque')}, **samples.of_tick()}, np.zeros(5))
            for key in BOUNDS:
                theirs = np.array(step[key]) / (spaces.GRIPPER_CLOSED if key == 'gripper_position' else 1.0)
                apart = np.abs(ours[key] - theirs)
                if key.endswith('pose'):        # of a quaternion either sign
                    apart[3:] = np.minimum(apart[3:], np.abs(ours[key] + theirs)[3:])
                worst[key] = max(worst[key], apart.max())
    assert len(reference['responses']) == 12
    assert {k: v for k, v in worst.items() if v > {**BOUNDS, 'sent': SENT}[k]} == {}, worst


@pytest.mark.parametrize('triplet', range(1, 6))
def test_episodes_start_where_the_public_ones_do(reference, triplet):
    public = reference['starts'][str(triplet)]
    colours = ('red', 'green', 'blue')
    theirs = np.array([[row[f'{c}_pose'][:3] for c in colours] for row in public]).reshape(-1, 3)
    world, ours = World(triplet, 'fast', 0), []
    for seed in range(60):
        world.place(seed)
        ours.append(world.data.qpos[world.index.objects_qpos][:, :3].copy())
    ours = np.array(ours).reshape(-1, 3)
    # of the two means, in standard errors; of the spread, 72 and 180 values each
    error = np.sqrt(theirs.var(axis=0) / len(theirs) + ours.var(axis=0) / len(ours))
    assert (np.abs(theirs.mean(axis=0) - ours.mean(axis=0))[:2] < 4 * error[:2]).all()
    assert abs(theirs[:, 2].mean() - ours[:, 2].mean()) < 2e-3
    ratio = ours.std(axis=0)[:2] / theirs.std(axis=0)[:2]
    assert ((0.75 < ratio) & (ratio < 1.33)).all()


def test_the_tool_starts_where_the_public_one_does(reference):
    public = np.array([[*row['pinch_pose'][:3], tool_yaw(np.array(row['pinch_pose']))]
                       for rows in reference['starts'].values() for row in rows])
    rng = np.random.default_rng(0)
    ours = np.array([[*position, turn] for position, turn in (random_tool_pose(rng) for _ in range(2000))])
    error = public.std(axis=0) / np.sqrt(len(public))
    assert len(public) == 120 and (np.abs(public.mean(axis=0) - ours.mean(axis=0)) < 4 * error).all()
    np.testing.assert_allclose(public.std(axis=0) / ours.std(axis=0), 1.0, atol=0.2)
    assert (public > ours.min(axis=0) - 5e-3).all() and (public < ours.max(axis=0) + 5e-3).all()

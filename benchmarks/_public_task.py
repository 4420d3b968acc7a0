# SPDX-License-Identifier: Apache-2.0
"""RGB stacking put together from DeepMind's packages on PyPI, to compare ours with; for an environment of its own.

dm-robotics has the arm, gripper, force sensor, basket, objects, sensors, effectors and the frame of an environment; what
google-deepmind/rgb_stacking adds is how they are joined and their numbers, which are written down here anew. Its shaped
reward is not on PyPI and left out: some arithmetic a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from dm_control.composer.variation import distributions, rotations
from dm_robotics import agentflow as af
from dm_robotics.agentflow.preprocessors import observation_transforms as transforms
from dm_robotics.agentflow.subtasks import subtask_termination
from dm_robotics.geometry import pose_distribution
from dm_robotics.manipulation.props.rgb_objects import rgb_object
from dm_robotics.manipulation.standard_cell import rgb_basket
from dm_robotics.moma import action_spaces, base_task, entity_initializer, prop, robot, subtask_env_builder
from dm_robotics.moma.effectors import (arm_effector, cartesian_4d_velocity_effector as cartesian_4d,
                                        cartesian_6d_velocity_effector as cartesian_6d, default_gripper_effector,
                                        min_max_effector)
from dm_robotics.moma.models.arenas import empty
from dm_robotics.moma.models.end_effectors.robot_hands import robotiq_2f85
from dm_robotics.moma.models.end_effectors.wrist_sensors import robotiq_fts300
from dm_robotics.moma.models.robots.robot_arms import sawyer, sawyer_constants
from dm_robotics.moma.sensors import (action_sensor, camera_sensor, prop_pose_sensor, robot_arm_sensor, robot_tcp_sensor,
                                      robot_wrist_ft_sensor, robotiq_gripper_sensor, site_sensor)
from dm_robotics.moma.utils import mujoco_collisions

PERIOD_S, PHYSICS_S, STEPS = 0.05, 0.0005, 400
BASKET_M = (0.6, 0.0, 0.0498)
BOX_CENTRE_M, BOX_SIZE_M = np.array([0.6, 0.0, 0.1698]), np.array([0.25, 0.25, 0.2])
OBJECTS_M = ((0.50, -0.10, 0.12), (0.70, 0.10, 0.12))
TOOL = ((0.5, -0.14, 0.22, np.pi, 0, -np.pi / 4), (0.7, 0.14, 0.43, np.pi, 0, np.pi / 4))     # m, rad
HOME_RAD = (0.0, -0.5186220703125, -0.529384765625, 1.220857421875, 0.40857421875, 1.07831640625, 0.0)
CAMERAS = ('basket_back_left', 'basket_front_left', 'basket_front_right')
COLOURS = {'red': (1, 0, 0, 1), 'green': (0, 1, 0, 1), 'blue': (0, 0, 1, 1)}


class Public:
    """The environment, and what a comparison looks into.

    Args:
      triplet: 1..5.
      cameras: with its three cameras, which it renders at every step.

    Attributes:
      env: dm_env.Environment; action [5]: x, y, z m/s, turn rad/s, gripper.
      arm, gripper, props: dm-robotics' entities.
      joint_command: the effector that gets the joint velocities.
    """

    def __init__(self, triplet: int, cameras: bool):
        arena = empty.Arena()
        arena.mjcf_model.size.nconmax = arena.mjcf_model.size.njmax = 5000
        place = arena.mjcf_model.worldbody.add('site', pos=BASKET_M, rgba='0 0 0 0', size='0.01')
        arena.attach(rgb_basket.RGBBasket(), place)
        whole = self._robot()
        arena.attach(whole.arm)
        self.props = [self._object(identity, colour) for identity, colour in
                      zip(rgb_object.PROP_TRIPLETS[f'rgb_test_triplet{triplet}'][1], COLOURS)]
        for one in self.props:
            one.set_freejoint(arena.add_free_entity(one).freejoint)
        sensors = prop_pose_sensor.build_prop_pose_sensors(self.props)
        if cameras:
            picture = camera_sensor.CameraConfig(width=128, height=128, fovy=30.0, has_rgb=True, has_depth=False)
            sensors += camera_sensor.build_camera_sensors(
                dict.fromkeys(CAMERAS, picture), arena.mjcf_model, {name: f'base/{name}' for name in CAMERAS})
        tool = pose_distribution.UniformPoseDistribution(min_pose_bounds=TOOL[0], max_pose_bounds=TOOL[1])
        start = entity_initializer.TaskEntitiesInitializer([
            entity_initializer.PoseInitializer(whole.position_gripper, tool.sample_pose),
            entity_initializer.PropPlacer(props=self.props, position=distributions.Uniform(*OBJECTS_M),
                                          quaternion=rotations.UniformQuaternion(), settle_physics=True)])
        task = base_task.BaseTask(
            task_name='rgb_stacking', arena=arena, robots=[whole], props=self.props, extra_sensors=sensors, extra_effectors=[],
            scene_initializer=lambda _: None, episode_initializer=start, control_timestep=PERIOD_S)
        task.physics_timestep = PHYSICS_S
        mujoco_collisions.exclude_bodies_based_on_contype_conaffinity(task.root_entity.mjcf_model)
        self.env = self._environment(task, whole)

    def _robot(self) -> robot.Robot:
        self.arm = sawyer.Sawyer(name='robot0', actuation=sawyer_constants.Actuation.INTEGRATED_VELOCITY)
        self.gripper, force = robotiq_2f85.Robotiq2F85(), robotiq_fts300.RobotiqFTS300()
        robot.standard_compose(arm=self.arm, gripper=self.gripper, wrist_ft=force, wrist_cameras=[])
        joints, joints_sensor = action_sensor.create_sensed_effector(
            arm_effector.ArmEffector(arm=self.arm, action_range_override=None, robot_name='robot0'))
        self.joint_command = joints
        fingers, fingers_sensor = action_sensor.create_sensed_effector(
            default_gripper_effector.DefaultGripperEffector(self.gripper, 'robot0'))
        six = cartesian_6d.Cartesian6dVelocityEffector(
            robot_name='robot0', joint_velocity_effector=joints,
            model_params=cartesian_6d.ModelParams(element=self.arm.wrist_site, joints=self.arm.joints),
            control_params=cartesian_6d.ControlParams(
                control_timestep_seconds=PERIOD_S, max_lin_vel=0.07, max_rot_vel=1.0,
                joint_velocity_limits=np.array(sawyer_constants.VELOCITY_LIMITS['max']), nullspace_gain=0.025,
                nullspace_joint_position_reference=np.array(HOME_RAD), regularization_weight=1e-2,
                enable_joint_position_limits=True, minimum_distance_from_joint_position_limit=0.01,
                joint_position_limit_velocity_scale=0.95, max_cartesian_velocity_control_iterations=300,
                max_nullspace_control_iterations=300))
        four = cartesian_4d.limit_to_workspace(
            cartesian_effector=cartesian_4d.Cartesian4dVelocityEffector(
                effector_6d=six, element=self.arm.wrist_site, effector_prefix='robot0_cart_4d_vel'),
            element=self.gripper.tool_center_point, min_workspace_limits=BOX_CENTRE_M - BOX_SIZE_M / 2,
            max_workspace_limits=BOX_CENTRE_M + BOX_SIZE_M / 2, wrist_joint=self.arm.joints[-1],
            wrist_limits=(-np.pi / 2, np.pi / 2), reverse_wrist_range=True)
        return robot.StandardRobot(
            arm=self.arm, arm_base_site_name='base_site', gripper=self.gripper, wrist_cameras=[], arm_effector=four,
            gripper_effector=min_max_effector.MinMaxEffector(base_effector=fingers), wrist_ft=force, name='robot0',
            robot_sensors=[
                robot_arm_sensor.RobotArmSensor(arm=self.arm, name='robot0_arm', have_torque_sensors=True),
                robot_tcp_sensor.RobotTCPSensor(gripper=self.gripper, name='robot0'),
                site_sensor.SiteSensor(site=self.arm.wrist_site, name='robot0_wrist_site'),
                robotiq_gripper_sensor.RobotiqGripperSensor(gripper=self.gripper, name='robot0_gripper'),
                robot_wrist_ft_sensor.RobotWristFTSensor(wrist_ft_sensor=force, name='robot0_wrist'),
                joints_sensor, fingers_sensor])

    @staticmethod
    def _object(identity: str, colour: str) -> prop.Prop:
        name = f'rgb_object_{colour}'
        return prop.WrapperProp(wrapped_entity=rgb_object.RgbObjectProp(obj_id=identity, color=COLOURS[colour], name=name),
                                name=name)

    @staticmethod
    def _environment(task: Any, whole: robot.Robot) -> Any:
        builder = subtask_env_builder.SubtaskEnvBuilder()
        builder.set_task(task)
        spec = task.effectors_action_spec(physics=builder.build_base_env().physics)
        builder.set_action_space(af.CompositeActionSpace([
            action_spaces.ArmJointActionSpace(af.prefix_slicer(spec, whole.arm_effector.prefix)),
            action_spaces.GripperActionSpace(af.prefix_slicer(spec, whole.gripper_effector.prefix))]))
        builder.add_preprocessor(transforms.DowncastFloatPreprocessor(np.float32))
        builder.add_preprocessor(subtask_termination.MaxStepsTermination(STEPS))
        return builder.build()

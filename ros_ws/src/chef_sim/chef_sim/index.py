# SPDX-License-Identifier: Apache-2.0
"""Where things are in a model's arrays, looked up once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from chef_task.spaces import JOINTS, OBJECTS

from chef_sim import scene
from chef_sim.engine import mujoco


@dataclass(frozen=True)
class Index:
    """Positions in the arrays of a model and its data.

    arm_qpos, arm_dof, arm_act: slices of 7; gripper_qpos, gripper_dof: the driver joint that the register
    reads; gripper_ctrl; objects_qpos [3, 7], objects_dof [3, 6]; tcp, pinch: sites; force, torque,
    efforts [7]: in sensordata; pads: the two fingertip geoms; robot_geom, object_geom: masks over geoms.
    """

    arm_qpos: slice
    arm_dof: slice
    arm_act: slice
    gripper_qpos: int
    gripper_dof: int
    gripper_ctrl: int
    objects_qpos: np.ndarray
    objects_dof: np.ndarray
    tcp: int
    pinch: int
    force: slice
    torque: slice
    efforts: np.ndarray
    pads: tuple[int, int]
    robot_bodies: np.ndarray
    robot_geom: np.ndarray
    object_geom: np.ndarray


def _run(places: list[int]) -> slice:
    first = int(places[0])
    if [int(p) for p in places] != list(range(first, first + len(places))):
        raise ValueError(f'the places {places} do not follow one another')
    return slice(first, first + len(places))


def index(model: mujoco.MjModel) -> Index:
    """The index of a model that `scene.build_model` made."""
    arm = [model.joint(f'arm/{j}') for j in JOINTS]
    objects = [model.joint(o) for o in OBJECTS]
    driver = model.joint(scene.DRIVER_JOINT)
    body_names = [model.body(i).name for i in range(model.nbody)]
    robot = np.array([n.startswith(('arm/', 'ft/', 'gripper/')) for n in body_names])
    is_object = np.array([n in OBJECTS for n in body_names])

    def sensor(name: str) -> slice:
        s = model.sensor(name)
        return slice(int(s.adr[0]), int(s.adr[0] + s.dim[0]))

    return Index(
        arm_qpos=_run([j.qposadr[0] for j in arm]),
        arm_dof=_run([j.dofadr[0] for j in arm]),
        arm_act=_run([model.actuator(f'arm/{j}').actadr[0] for j in JOINTS]),
        gripper_qpos=int(driver.qposadr[0]),
        gripper_dof=int(driver.dofadr[0]),
        gripper_ctrl=model.actuator(scene.GRIPPER_ACTUATOR).id,
        objects_qpos=np.array([np.arange(7) + j.qposadr[0] for j in objects]),
        objects_dof=np.array([np.arange(6) + j.dofadr[0] for j in objects]),
        tcp=model.site(scene.TCP_SITE).id,
        pinch=model.site(scene.PINCH_SITE).id,
        force=sensor(scene.FORCE_SENSOR),
        torque=sensor(scene.TORQUE_SENSOR),
        # a torque sensor measures three axes, the joint turns about the third
        efforts=np.array([sensor(f'arm/j{i}_torque').start + 2 for i in range(len(JOINTS))]),
        pads=tuple(model.geom(g).id for g in scene.PAD_GEOMS),
        robot_bodies=np.flatnonzero(robot),
        robot_geom=robot[model.geom_bodyid],
        object_geom=is_object[model.geom_bodyid],
    )

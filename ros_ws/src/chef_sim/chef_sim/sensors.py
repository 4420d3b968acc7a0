# SPDX-License-Identifier: Apache-2.0
"""What the cell's sensors read from the simulation, as lists that JSON can hold."""

from __future__ import annotations

import math

import numpy as np
from chef_task.spaces import GRASP_INWARD, GRASP_NONE, GRASP_OUTWARD

from chef_sim import cell
from chef_sim.engine import mujoco
from chef_sim.index import Index

# The TCP is, as in dm-robotics, the `wrist_site` of the Sawyer: its last flange.
_TCP_FACING_DOWN = np.array([0.0, -math.sqrt(0.5), math.sqrt(0.5), 0.0])

_REGISTER_PER_RAD = cell.GRIPPER_CLOSED / cell.GRIPPER_RANGE_RAD
_GRASP_COMMAND = 2.0        # register units/s: a gripper told to move slower holds nothing
_TOUCHING_M = 1e-8          # largest distance of a contact that counts
_TRACKER_NOISE_M = 1e-9     # far below what matters


def joints(d: mujoco.MjData, i: Index) -> dict:
    """position [7] rad, velocity [7] rad/s, effort [7] N m about each joint, without the arm's weight."""
    return {'position': d.qpos[i.arm_qpos].tolist(), 'velocity': d.qvel[i.arm_dof].tolist(),
            'effort': d.sensordata[i.efforts].tolist()}


def tcp(m: mujoco.MjModel, d: mujoco.MjData, i: Index) -> dict:
    """pose [7], m and quaternion w x y z; twist [6], m/s then rad/s; both along the base's axes."""
    mujoco.mj_kinematics(m, d)
    mujoco.mj_comPos(m, d)
    mujoco.mj_comVel(m, d)
    quat, twist = np.zeros(4), np.zeros(6)
    mujoco.mju_mat2Quat(quat, d.site_xmat[i.tcp])
    if quat @ _TCP_FACING_DOWN < 0:  # of q and -q always the same one, as long as the tool faces down
        quat = -quat
    mujoco.mj_objectVelocity(m, d, mujoco.mjtObj.mjOBJ_SITE, i.tcp, twist, 0)
    return {'pose': d.site_xpos[i.tcp].tolist() + quat.tolist(),
            'twist': twist[3:].tolist() + twist[:3].tolist()}


def gripper(d: mujoco.MjData, i: Index) -> dict:
    """position, the register 0 open .. 255 closed; velocity, its change in 1/s; grasp, see `grasp`."""
    register = round(min(max(d.qpos[i.gripper_qpos] * _REGISTER_PER_RAD, 0.0), cell.GRIPPER_CLOSED))
    return {'position': register, 'velocity': float(d.qvel[i.gripper_dof]) * _REGISTER_PER_RAD,
            'grasp': grasp(d, i)}


def grasp(d: mujoco.MjData, i: Index) -> int:
    """1 none, 2 inward, 3 outward: both fingertips touch something while told to close, or to open.

    As in dm-robotics, but that parts of the gripper itself do not count: there, as not on the real one, an
    empty gripper that is closed counts as one that holds.
    """
    command = float(d.ctrl[i.gripper_ctrl])
    if abs(command) < _GRASP_COMMAND:
        return GRASP_NONE
    pairs = d.contact.geom[d.contact.dist <= _TOUCHING_M]
    for pad in i.pads:
        touching = pairs[(pairs == pad).any(axis=1)]
        if not (~i.robot_geom[touching]).any():
            return GRASP_NONE
    return GRASP_INWARD if command > 0 else GRASP_OUTWARD


def wrench(d: mujoco.MjData, i: Index) -> dict:
    """force [3] N, torque [3] N m in the sensor's frame, without the tool's weight.

    The signs are mujoco's, as dm-robotics passes them on: what the sensor's upper side does to its lower, so that a
    weight that the arm holds points up.
    """
    return {'force': d.sensordata[i.force].tolist(), 'torque': d.sensordata[i.torque].tolist()}


def objects(d: mujoco.MjData, i: Index, stamp_ns: int) -> dict:
    """poses [3][7] of red, green, blue in the base's frame, m and quaternion w x y z.

    No tracker measures the same twice, and one that seems to counts as frozen: the positions have a noise of a
    nanometre, which is a function of the stamp.
    """
    poses = d.qpos[i.objects_qpos]
    # Knuth's multiplicative hash of the stamp in microseconds
    poses[:, :3] += _TRACKER_NOISE_M * ((stamp_ns // 1000 * 2654435761 % 2**32) / 2**31 - 1)
    return {'poses': poses.tolist()}

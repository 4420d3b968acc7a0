# SPDX-License-Identifier: Apache-2.0
"""What the public environment does, as numbers: `python _public_reference.py OUT.json`, in its own environment.

For every triplet start states of episodes; for given states its observations; for given commands the joint velocities
that it sends and where the tool is later.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from _public_task import HOME_RAD, OBJECTS_M, Public

STARTS, STATES, STEPS = 24, 12, 10
NAMES = {'joint_angle': 'robot0_arm_joint_pos', 'joint_velocity': 'robot0_arm_joint_vel',
         'joint_torque': 'robot0_arm_joint_torques', 'pinch_pose': 'robot0_tcp_pose', 'tcp_pose': 'robot0_wrist_site_pose',
         'tcp_velocity': 'robot0_wrist_site_vel_world', 'gripper_position': 'robot0_gripper_pos',
         'gripper_velocity': 'robot0_gripper_vel', 'gripper_grasp': 'robot0_gripper_grasp',
         'wrist_force': 'robot0_wrist_force', 'wrist_torque': 'robot0_wrist_torque',
         'red_pose': 'rgb_object_red_pose', 'green_pose': 'rgb_object_green_pose', 'blue_pose': 'rgb_object_blue_pose'}
# out of the arm's way: what it does must not depend on what it happens to touch
AWAY = [[0.5, 0.8, 0.5, 1, 0, 0, 0], [0.7, 0.9, 0.5, 1, 0, 0, 0], [0.6, -0.9, 0.5, 1, 0, 0, 0]]


def seen(observation: dict) -> dict:
    return {ours: np.asarray(observation[theirs], float).ravel().tolist() for ours, theirs in NAMES.items()}


def starts(triplet: int) -> list[dict]:
    """Poses of tool and objects at the start of episodes."""
    public = Public(triplet, cameras=False)
    out = []
    for _ in range(STARTS):
        o = seen(public.env.reset().observation)
        out.append({k: [round(x, 6) for x in o[k]] for k in ('pinch_pose', 'red_pose', 'green_pose', 'blue_pose')})
    public.env.close()
    return out


def responses() -> list[dict]:
    """For arms at rest and commands: observations before, joint velocities sent, and observations after each step."""
    public = Public(1, cameras=False)
    spec, rng, out = public.env.action_spec(), np.random.default_rng(0), []
    for number in range(STATES):
        o = seen(public.env.reset().observation)
        physics = public.env.physics
        q = np.array(o['joint_angle'])      # of a start pose: over the basket, facing down
        public.arm.set_joint_angles(physics, q)
        for one, pose in zip(public.props, AWAY):
            one.set_pose(physics, pose[:3], pose[3:])
        physics.data.qvel[:] = 0.0
        physics.forward()
        # full speed along an axis or about the vertical, then anything
        action = np.zeros(5) if number == 0 else np.eye(5)[(number - 1) % 4] * spec.maximum * (1 if number < 5 else -1) \
            if number < 9 else rng.uniform(spec.minimum, spec.maximum)
        row = {'joint_angle': q.tolist(), 'action': (action / spec.maximum).tolist(), 'steps': []}
        for _ in range(STEPS):
            timestep = public.env.step(action.astype(spec.dtype))
            row['steps'].append({**seen(timestep.observation), 'sent': np.asarray(
                timestep.observation['robot0_arm_joint_previous_action'], float).tolist()})
        out.append(row)
    public.env.close()
    return out


def model() -> dict:
    """Of the compiled model: options, and what the objects and cameras are."""
    public = Public(1, cameras=True)
    m = public.env.physics.model
    option = m.opt
    names = [m.id2name(g, 'geom') for g in range(m.ngeom)]
    objects = [g for g, name in enumerate(names) if name.startswith('rgb_object') and m.geom_contype[g]]
    out = {
        'option': {k: float(getattr(option, k)) for k in ('timestep', 'integrator', 'cone', 'noslip_iterations',
                                                          'noslip_tolerance', 'tolerance', 'iterations')},
        'gravity': option.gravity.tolist(),
        'object_masses': sorted({round(float(m.body_subtreemass[m.geom_bodyid[g]]), 6) for g in objects}),
        'object_friction': sorted({tuple(np.round(m.geom_friction[g], 6).tolist()) for g in objects}),
        'object_condim': sorted({int(m.geom_condim[g]) for g in objects}),
        'cameras': {m.id2name(c, 'camera').split('/')[-1]: {
            'fovy': float(m.cam_fovy[c]), 'position': np.round(public.env.physics.data.cam_xpos[c], 5).tolist(),
            'axes': np.round(public.env.physics.data.cam_xmat[c], 5).tolist()} for c in range(m.ncam)},
    }
    public.env.close()
    return out


def main(path: str) -> int:
    out = {'made_by': './chef bench parity', 'home_rad': HOME_RAD, 'objects_m': OBJECTS_M, 'away': AWAY, 'model': model(),
           'responses': responses(), 'starts': {str(t): starts(t) for t in range(1, 6)}}
    Path(path).write_text(json.dumps(out) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))

# SPDX-License-Identifier: Apache-2.0
"""What a stand-in arm moves: bodies that follow joint velocities, by integration or by physics."""

from __future__ import annotations

import argparse
import json
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from chef_sim.engine import mujoco
from chef_task.cell import Mount
from chef_task.spaces import JOINTS

# rad/s^2; the body comes to rest at once from a creep, and from the arm's full speed in a tenth of a second
_ACCELERATION = 40.0


class Body:
    """Joints that follow velocities, within a range (lower, upper), rad, [n] each. Starts at `q`, rad."""

    def __init__(self, limits, q):
        self._lower, self._upper = limits
        self._q, self._v = np.array(q, float), np.zeros(len(q))
        self._noise = np.random.default_rng(0)

    def advance(self, velocity, dt_s: float) -> dict:
        """Follows joint velocities, [n] rad/s, for a time; the sample of stream 'joints' then."""
        change = np.asarray(velocity, float) - self._v
        self._v = self._v + np.clip(change, -_ACCELERATION * dt_s, _ACCELERATION * dt_s)
        q = np.clip(self._q + self._v * dt_s, self._lower, self._upper)
        self._v[q != self._q + self._v * dt_s] = 0.0
        self._q = q
        shown = q + self._noise.normal(0.0, 1e-9, q.size)   # encoders have noise: readings that repeat count as frozen
        return {'stream': 'joints', 'stamp': time.time_ns(), 'position': shown.tolist(),
                'velocity': self._v.tolist(), 'effort': self._noise.normal(0.0, 1e-3, q.size).tolist()}


class PhysicalBody:
    """A MuJoCo model of the URDF's bodies, its joints driven by velocity servos; without gravity and contacts, as an
    arm's own controller compensates the one and a command in free space meets none of the other.

    Args:
      urdf: path. Its meshes are not read: a link without inertia gets a small one.
      joints: names of those that follow commands; the others are held where they are at 0.
      q: where they start, rad, [n].
    """

    def __init__(self, urdf: str | Path, joints, q):
        self.model = _model(urdf, joints)
        self.data = mujoco.MjData(self.model)
        self._qpos = np.array([self.model.joint(j).qposadr[0] for j in joints])
        self._dof = np.array([self.model.joint(j).dofadr[0] for j in joints])
        self.data.qpos[self._qpos] = q
        mujoco.mj_forward(self.model, self.data)

    def advance(self, velocity, dt_s: float) -> dict:
        """Follows joint velocities, [n] rad/s, for a time; the sample of stream 'joints' then."""
        self.data.ctrl[:] = velocity
        mujoco.mj_step(self.model, self.data, max(1, round(dt_s / self.model.opt.timestep)))
        return {'stream': 'joints', 'stamp': time.time_ns(), 'position': self.data.qpos[self._qpos].tolist(),
                'velocity': self.data.qvel[self._dof].tolist(), 'effort': self.data.qfrc_actuator[self._dof].tolist()}


_SERVO, _MOTOR = 50.0, 0.1  # N m s/rad, within the URDF's torque; kg m^2, of a motor behind its gear
_STEP_S = 0.001


def _model(urdf: str | Path, joints) -> mujoco.MjModel:
    tree = ElementTree.parse(urdf)
    for link in tree.getroot().iter('link'):
        for part in (*link.findall('visual'), *link.findall('collision')):
            link.remove(part)
        mass = link.find('inertial/mass')
        if mass is None or float(mass.get('value', 0)) <= 0:
            for part in link.findall('inertial'):
                link.remove(part)
            inertial = ElementTree.SubElement(link, 'inertial')
            ElementTree.SubElement(inertial, 'mass', value='0.001')
            ElementTree.SubElement(inertial, 'inertia', ixx='1e-6', iyy='1e-6', izz='1e-6', ixy='0', ixz='0', iyz='0')
    for joint in tree.getroot().iter('joint'):
        # named joints alone move
        if joint.get('type') not in (None, 'fixed') and joint.get('name') not in joints:
            joint.set('type', 'fixed')
    extension = ElementTree.SubElement(tree.getroot(), 'mujoco')
    ElementTree.SubElement(extension, 'compiler', fusestatic='false', balanceinertia='true', discardvisual='true')
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(tree.getroot(), encoding='unicode'))
    spec.option.gravity, spec.option.timestep = np.zeros(3), _STEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for joint in joints:
        spec.joint(joint).armature = _MOTOR
        spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT).set_to_velocity(kv=_SERVO)
    return spec.compile()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `arm_plans.words`."""
    parser.add_argument('--urdf', required=True)
    parser.add_argument('--joints', default=','.join(JOINTS), help='their names, separated by commas')
    parser.add_argument('--pinch', default='', help='JSON: [link, x, y, z, qw, qx, qy, qz]; if not in the URDF')


def pinch(args: argparse.Namespace) -> Mount | None:
    """What was given as --pinch."""
    if not args.pinch:
        return None
    link, *pose = json.loads(args.pinch)
    return Mount(link, tuple(pose))

# SPDX-License-Identifier: Apache-2.0
"""The arm as a URDF, generated from the simulated model, for kinematics libraries and for rviz."""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from chef_task.geometry import quat_conjugate, quat_multiply, rotate
from chef_task.spaces import JOINTS

from chef_sim import cell, meshes
from chef_sim.engine import mujoco
from chef_sim.scene import PINCH_SITE, TCP_SITE, build_model, drawn_meshes

# URDF link: the model's body, or site
LINKS = {'base': 'arm/arm_base_link', **{f'right_l{i}': f'arm/l{i}' for i in range(7)},
         'right_hand': 'arm/hand'}
# Bodies that are drawn with a link without being it.
_DRAWN_WITH = {'right_hand': ('ft/', 'gripper/'), 'right_l0': ('arm/head',)}


def _rpy(q: np.ndarray) -> np.ndarray:
    """Fixed-axis roll, pitch, yaw of a unit quaternion w x y z, rad."""
    m = np.zeros(9)
    mujoco.mju_quat2Mat(m, q / np.linalg.norm(q))
    m = m.reshape(3, 3)
    pitch = np.arctan2(-m[2, 0], np.hypot(m[0, 0], m[1, 0]))
    if abs(abs(pitch) - np.pi / 2) < 1e-9:  # roll and yaw turn about the same axis: all of it to yaw
        return np.array([0.0, pitch, np.arctan2(-m[0, 1], m[1, 1])])
    return np.array([np.arctan2(m[2, 1], m[2, 2]), pitch, np.arctan2(m[1, 0], m[0, 0])])


def _numbers(values) -> str:
    return ' '.join(f'{float(v) + 0.0:.17g}' for v in values)


def _origin(position, quat) -> str:
    return f'<origin xyz="{_numbers(position)}" rpy="{_numbers(_rpy(np.asarray(quat, float)))}"/>'


def _fixed(name: str, parent: str, child: str, position, quat) -> list[str]:
    return [f'  <joint name="{name}_mount" type="fixed">', f'    <parent link="{parent}"/>',
            f'    <child link="{child}"/>', f'    {_origin(position, quat)}', '  </joint>']


class _Model:
    """The bodies of the scene, relative to one another at zero joint angles."""

    def __init__(self, visuals: bool):
        self.model = build_model(1, 'fast', visuals)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_kinematics(self.model, self.data)

    def relative(self, position, quat, body: int) -> tuple[np.ndarray, np.ndarray]:
        """A world pose in the frame of a body."""
        inverse = quat_conjugate(self.data.xquat[body])
        return rotate(inverse, position - self.data.xpos[body]), quat_multiply(inverse, quat)

    def site(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        s = self.data.site(name)
        quat = np.zeros(4)
        mujoco.mju_mat2Quat(quat, s.xmat)
        return s.xpos, quat


def _visual(at: str, rgba, file: str) -> list[str]:
    return ['    <visual>', f'      {at}', f'      <geometry><mesh filename={quoteattr(file)}/></geometry>',
            f'      <material name="rgba_{"_".join(f"{c:g}" for c in rgba)}">'
            f'<color rgba="{_numbers(rgba)}"/></material>', '    </visual>']


def _visuals(m: _Model, link: str, folder: Path | None, uri: str) -> list[str]:
    if folder is None:
        return []
    lines, body = [], m.model.body(LINKS[link]).id
    for mesh_name, geom_body, rgba, mesh in drawn_meshes():
        if geom_body != LINKS[link] and not geom_body.startswith(_DRAWN_WITH.get(link, ('no body',))):
            continue
        file = mesh_name.replace('/', '_') + '.stl'
        meshes.write_stl(folder / file, mesh)
        b = m.data.body(geom_body)
        lines += _visual(_origin(*m.relative(b.xpos, b.xquat, body)), rgba, uri + file)
    return lines


def _inertial(m: _Model, body: int) -> list[str]:
    # of the published model; each link's own, the tool is not part of the hand's
    model = m.model
    values = model.body_inertia[body]
    moments = f'ixx="{values[0]:.9g}" iyy="{values[1]:.9g}" izz="{values[2]:.9g}" ixy="0" ixz="0" iyz="0"'
    return ['    <inertial>', f'      {_origin(model.body_ipos[body], model.body_iquat[body])}',
            f'      <mass value="{model.body_mass[body]:.9g}"/>', f'      <inertia {moments}/>',
            '    </inertial>']


def _moving(m: _Model, i: int, parent: str, child: str) -> list[str]:
    body, joint = m.model.body(LINKS[child]).id, m.model.joint(f'arm/{JOINTS[i]}')
    at = m.relative(m.data.xpos[body], m.data.xquat[body], m.model.body(LINKS[parent]).id)
    low, high = joint.range
    return [f'  <joint name="{JOINTS[i]}" type="revolute">', f'    <parent link="{parent}"/>',
            f'    <child link="{child}"/>', f'    {_origin(*at)}',
            f'    <axis xyz="{_numbers(joint.axis)}"/>',
            f'    <limit lower="{low:.17g}" upper="{high:.17g}" velocity="{cell.ARM_VELOCITY_LIMITS[i]:g}" '
            f'effort="{cell.ARM_EFFORT_LIMITS[i]:g}"/>',
            f'    <dynamics damping="{joint.damping[0]:g}" friction="{joint.frictionloss[0]:g}"/>',
            '  </joint>']


def sawyer_urdf(mesh_dir: str | Path | None = None, mesh_uri: str | None = None) -> str:
    """The Sawyer with its tool frames as URDF text.

    Links `base`, `right_l0` .. `right_l6`, `right_hand`, `tcp`, `pinch`; joints `right_j0` .. `right_j6`
    with the limits of `chef_sim.cell`.

    Args:
      mesh_dir: a folder, made if missing, to write the decimated meshes of arm and (open) gripper to. None:
        no visual elements.
      mesh_uri: what the URDF calls that folder, such as 'package://my_robot/meshes'; its path by default.
    """
    folder, uri = None, ''
    if mesh_dir is not None:
        folder = Path(mesh_dir)
        folder.mkdir(parents=True, exist_ok=True)
        uri = (mesh_uri or f'file://{folder.resolve()}').rstrip('/') + '/'
    m = _Model(visuals=False)
    lines = ['<?xml version="1.0"?>', '<robot name="sawyer">']
    for link in LINKS:
        lines += [f'  <link name="{link}">', *_inertial(m, m.model.body(LINKS[link]).id),
                  *_visuals(m, link, folder, uri), '  </link>']
    lines += ['  <link name="tcp"/>', '  <link name="pinch"/>']
    chain = list(LINKS)
    for i in range(7):
        lines += _moving(m, i, chain[i], chain[i + 1])
    hand = m.model.body(LINKS['right_hand']).id
    wrist = m.model.body(LINKS['right_l6']).id
    lines += _fixed('right_hand', 'right_l6', 'right_hand',
                    *m.relative(m.data.xpos[hand], m.data.xquat[hand], wrist))
    for name, site in (('tcp', TCP_SITE), ('pinch', PINCH_SITE)):
        lines += _fixed(name, 'right_hand', name, *m.relative(*m.site(site), hand))
    return '\n'.join([*lines, '</robot>', ''])


def main(argv: list[str] | None = None) -> None:
    """Prints the arm's URDF."""
    parser = argparse.ArgumentParser(prog='python -m chef_sim.urdf', description=main.__doc__)
    parser.add_argument('--mesh-dir', help='folder to write the meshes to; none by default')
    parser.add_argument('--mesh-uri', help='what the URDF calls that folder')
    args = parser.parse_args(argv)
    print(sawyer_urdf(args.mesh_dir, args.mesh_uri), end='')


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""The benchmark's scene as a mujoco model: arm, gripper, force sensor, basket, cameras, three objects."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from chef_task.spaces import JOINTS, OBJECTS

from chef_sim import assets, cell, meshes
from chef_sim.engine import mujoco
from chef_sim.physics import Physics, preset

# Groups of geoms: what is drawn, and what collides.
VISUAL_GROUP, COLLISION_GROUP = 1, 4
TCP_SITE = 'arm/wrist_site'
PINCH_SITE = 'gripper/pinch_site'
FORCE_SENSOR, TORQUE_SENSOR = 'ft/ft_sensor_force', 'ft/ft_sensor_torque'
DRIVER_JOINT = 'gripper/left_driver_joint'
GRIPPER_ACTUATOR = 'gripper/fingers_actuator'
PAD_GEOMS = tuple(f'gripper/reinforced_{side}_fingertip_geom' for side in ('left', 'right'))
GEOM = mujoco.mjtGeom
# Bits of contacts between links of the arm alone, when they cannot touch one another.
_ARM_ALONE = 8


def _spec(name: str, prologue: str = '') -> tuple[mujoco.MjSpec, Path]:
    path = assets.model_file(name)
    text = path.read_text()
    if prologue:
        text = text.replace('<default>', '<default>' + prologue, 1)
    spec = mujoco.MjSpec.from_string(text)
    found = re.search(r'meshdir=["\']([^"\']*)', text)
    return spec, path.parent / (found.group(1) if found else '')


class _Part:
    """One model file, with its meshes replaced by prepared ones."""

    def __init__(self, name: str, prologue: str = ''):
        self.name = name
        self.spec, folder = _spec(name, prologue)
        self._files = {m.name: (folder / m.file, float(m.scale[0])) for m in self.spec.meshes}
        used = {g.meshname for g in self.spec.geoms if g.type == GEOM.mjGEOM_MESH}
        self.sources = {f'{name}/{m}': self._files[m] for m in sorted(used)}

    def use(self, prepared: dict[str, meshes.Mesh], physics: Physics, visuals: bool, collides: bool) -> None:
        """Splits each mesh geom into a hull that collides and a surface that is drawn."""
        geoms = [g for g in self.spec.geoms if g.type == GEOM.mjGEOM_MESH]
        for mesh in list(self.spec.meshes):
            self.spec.delete(mesh)
        added = set()
        for geom in geoms:
            mesh = prepared[f'{self.name}/{geom.meshname}']
            source = geom.meshname
            if visuals:
                drawn = f'{source}_drawn'
                if drawn not in added:
                    added.add(drawn)
                    self.spec.add_mesh(name=drawn, uservert=mesh.vertices.ravel(),
                                       userface=mesh.faces.ravel())
                geom.parent.add_geom(
                    type=GEOM.mjGEOM_MESH, meshname=drawn, contype=0, conaffinity=0, group=VISUAL_GROUP,
                    pos=geom.pos, quat=geom.quat, rgba=geom.rgba, material=geom.material, mass=0.0)
            if collides:
                hull = f'{source}_hull'
                if hull not in added:
                    added.add(hull)
                    self.spec.add_mesh(name=hull, uservert=mesh.hull.ravel(),
                                       maxhullvert=physics.hull_vertices)
                geom.meshname, geom.group, geom.material = hull, COLLISION_GROUP, ''
            else:
                self.spec.delete(geom)


def _arm_part() -> _Part:
    classes = ''.join(
        f'<default class="{name}"><joint armature="1" damping="0.1" frictionloss="{loss}"/></default>'
        for name, loss in cell.ARM_JOINT_CLASSES.items())
    return _Part('arm', classes)  # the file refers to classes that it does not define


def _add_arm_actuators(spec: mujoco.MjSpec) -> None:
    for i, joint in enumerate(JOINTS):
        low, high = spec.joint(f'arm/{joint}').range
        # An integrator: the command is a velocity, its integral the position that a spring pulls to.
        spec.add_actuator(
            name=f'arm/{joint}', trntype=mujoco.mjtTrn.mjTRN_JOINT, target=f'arm/{joint}',
            dyntype=mujoco.mjtDyn.mjDYN_INTEGRATOR, biastype=mujoco.mjtBias.mjBIAS_AFFINE,
            gainprm=[cell.ARM_GAIN] + [0.0] * 9,
            biasprm=[0.0, -cell.ARM_GAIN, -cell.ARM_DAMPING] + [0.0] * 7,
            ctrllimited=True, ctrlrange=np.array([-1, 1]) * cell.ARM_VELOCITY_LIMITS[i],
            forcelimited=True, forcerange=np.array([-1, 1]) * cell.ARM_EFFORT_LIMITS[i],
            actlimited=True, actrange=[low, high])


def _finish_gripper(spec: mujoco.MjSpec) -> None:
    for side in ('left', 'right'):
        spec.joint(f'{side}_spring_link_joint').stiffness[0] = 0.01
        driver = spec.joint(f'{side}_driver_joint')
        driver.armature = 0.1
        driver.damping[0] = 1.0
        pad = spec.body(f'{side}_pad')
        tip = spec.geom(f'reinforced_{side}_fingertip_geom')
        tip.friction, tip.solimp = cell.PAD_FRICTION, cell.PAD_SOLIMP
        tip.solref = cell.PAD_SOLREF
        for i, position in enumerate(cell.PAD_BOXES, 1):
            pad.add_geom(
                name=f'{side}_collision_box{i}', type=GEOM.mjGEOM_BOX, pos=position, size=cell.PAD_BOX_SIZE,
                group=COLLISION_GROUP, rgba=[0, 0, 0, 0], condim=4, contype=6, conaffinity=5,
                friction=cell.PAD_FRICTION, solimp=cell.PAD_SOLIMP, solref=cell.PAD_SOLREF)
    # As the arm's: a velocity in register units, integrated. Damping is in the joint, where it is stabler.
    fingers = spec.actuator('fingers_actuator')
    fingers.ctrlrange = [-cell.GRIPPER_CLOSED, cell.GRIPPER_CLOSED]
    fingers.dyntype = mujoco.mjtDyn.mjDYN_INTEGRATOR
    fingers.gainprm = [cell.GRIPPER_GAIN * cell.GRIPPER_RANGE_RAD / cell.GRIPPER_CLOSED] + [0.0] * 9
    fingers.biasprm = [0.0, -cell.GRIPPER_GAIN] + [0.0] * 8
    fingers.actlimited, fingers.actrange = True, [0.0, cell.GRIPPER_CLOSED]


def _look(position, target) -> dict:
    """Position and orientation of a camera that looks at a target, upright."""
    z = np.subtract(position, target)
    x = np.cross([0.0, 0.0, 1.0], z)
    axes = np.stack([v / np.linalg.norm(v) for v in (x, np.cross(z, x), z)], axis=1)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, axes.ravel())
    return {'pos': position, 'quat': quat}


def _add_arena(spec: mujoco.MjSpec, visuals: bool) -> None:
    texture = mujoco.mjtTexture
    spec.add_texture(name='sky', type=texture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
                     rgb1=[0.7] * 3, rgb2=[0.9] * 3, width=100, height=100)
    spec.add_texture(name='ground', type=texture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
                     rgb1=[0.2, 0.3, 0.4], rgb2=[0.1, 0.2, 0.3], width=300, height=300,
                     mark=mujoco.mjtMark.mjMARK_EDGE, markrgb=[0.8] * 3)
    ground = spec.add_material(name='ground', texrepeat=[5, 5], texuniform=True, reflectance=0.2)
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = 'ground'
    world = spec.worldbody
    world.add_geom(name='ground', type=GEOM.mjGEOM_PLANE, size=[2, 2, 2], material='ground',
                   friction=[0.4, 0.005, 0.0001])
    world.add_light(pos=[0, 0, 1.5], dir=[0, 0, -1], diffuse=[0.7] * 3, specular=[0.3] * 3, castshadow=True)
    spec.visual.headlight.ambient = [0.3] * 3
    spec.visual.headlight.diffuse = [0.6] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.map.znear = 0.01
    spec.visual.quality.offsamples = 0  # no multisampling: half the time of a software rasteriser
    world.add_camera(name='overview', fovy=40, **_look((1.75, -1.15, 1.0), (0.42, 0.02, 0.33)))
    collision = world.add_body(name='basket_surfaces', pos=cell.BASKET_ORIGIN, quat=cell.BASKET_QUAT)
    for i, (position, size, quat) in enumerate(cell.BASKET_BOXES):
        collision.add_geom(name=f'basket_{i}', type=GEOM.mjGEOM_BOX, pos=position, size=size, quat=quat,
                           group=COLLISION_GROUP, rgba=[1, 1, 0, 0.3])
    if visuals:
        basket = world.add_body(name='basket_cameras', pos=cell.BASKET_ORIGIN, quat=cell.BASKET_QUAT)
        reference = basket.add_body(name='camera_ref', pos=cell.CAMERA_REFERENCE[0],
                                    quat=cell.CAMERA_REFERENCE[1])
        for name, (fovy, position, quat) in cell.CAMERAS.items():
            reference.add_camera(name=name, pos=position, quat=quat, fovy=fovy)


def _add_objects(spec: mujoco.MjSpec, triplet: int, physics: Physics) -> None:
    for name, file, rgba in zip(OBJECTS, assets.object_files(triplet), cell.OBJECT_COLOURS):
        spec.add_mesh(name=name, file=str(file), maxhullvert=physics.hull_vertices)
        body = spec.worldbody.add_body(name=name)
        body.add_freejoint(name=name)
        # the drawn mesh carries the mass: the inertia is the object's, not its hull's
        body.add_geom(name=f'{name}_drawn', type=GEOM.mjGEOM_MESH, meshname=name, contype=0, conaffinity=0,
                      group=VISUAL_GROUP, rgba=rgba, mass=cell.OBJECT_MASS_KG)
        body.add_geom(name=name, type=GEOM.mjGEOM_MESH, meshname=name, group=COLLISION_GROUP, mass=0.0,
                      condim=6, solref=[0.004, 1.0], friction=[0.5, 0.005, 0.0001])


_PREFIXES = {'arm': 'arm/', 'wrist_sensor': 'ft/', 'gripper': 'gripper/', 'basket': 'basket/'}


def _parts(faces: int) -> tuple[dict[str, _Part], dict[str, meshes.Mesh]]:
    """The model files, and the prepared meshes of all."""
    parts = {name: _arm_part() if name == 'arm' else _Part(name) for name in _PREFIXES}
    return parts, meshes.load_all({k: v for p in parts.values() for k, v in p.sources.items()}, faces)


def drawn_meshes() -> list[tuple[str, str, tuple[float, ...], meshes.Mesh]]:
    """What is drawn of arm and tool: mesh name, body whose frame it is in, colour, mesh."""
    parts, prepared = _parts(meshes.VISUAL_FACES)
    drawn = []
    for name, part in parts.items():
        colours = {m.name: m.rgba for m in part.spec.materials}
        for geom in part.spec.geoms if name != 'basket' else ():
            if geom.type == GEOM.mjGEOM_MESH:
                key = f'{name}/{geom.meshname}'
                rgba = tuple(float(c) for c in colours.get(geom.material, geom.rgba))
                mesh = prepared[key]
                moved = dataclasses.replace(mesh, vertices=mesh.vertices + geom.pos.astype(np.float32))
                drawn.append((key, _PREFIXES[name] + geom.parent.name, rgba, moved))
    return drawn


def build_model(triplet: int, physics: str = 'exact', visuals: bool = True, faces: int = meshes.VISUAL_FACES,
                add: Callable[[mujoco.MjSpec], None] | None = None) -> mujoco.MjModel:
    """The whole scene as a compiled model.

    Args:
      triplet: 1..5, which objects.
      physics: 'exact' or 'fast', see `chef_sim.physics`.
      visuals: with what only cameras see. The physics are the same without.
      faces: of each drawn mesh, about.
      add: called with the scene before it is compiled, to put more into it.

    Raises:
      ValueError: an unknown triplet or preset.
      AssetsMissing: the wheels with the models are not installed.
    """
    settings = preset(physics)
    assets.object_files(triplet)  # fails early on an unknown triplet
    parts, prepared = _parts(faces)
    for name, part in parts.items():
        part.use(prepared, settings, visuals, collides=name != 'basket')
    arm, sensor, gripper = (parts[n].spec for n in ('arm', 'wrist_sensor', 'gripper'))
    if not settings.arm_self_collision:
        for geom in arm.geoms:
            if geom.contype:
                geom.contype, geom.conaffinity = _ARM_ALONE, 1 | 2 | 4
    _finish_gripper(gripper)

    spec = mujoco.MjSpec()
    spec.modelname = 'chef_cell'
    spec.compiler.degree = False
    _add_arena(spec, visuals)
    if visuals:
        frame = spec.worldbody.add_frame(pos=cell.BASKET_ORIGIN)
        basket = parts['basket'].spec
        for geom in basket.geoms:
            geom.contype = geom.conaffinity = 0
            geom.group = VISUAL_GROUP
        spec.attach(basket, prefix='basket/', frame=frame)
    arm.body('hand').add_site(name='tool_mount', quat=cell.TOOL_QUAT)
    spec.attach(arm, prefix='arm/', frame=spec.worldbody.add_frame())
    _add_arm_actuators(spec)
    spec.attach(sensor, prefix='ft/', site=spec.site('arm/tool_mount'))
    spec.attach(gripper, prefix='gripper/', site=spec.site('ft/ft_sensor_attachment_site'))
    for name, (mass, com, quat, moments) in cell.INERTIAS.items():
        body = spec.body(name)
        body.mass, body.ipos, body.iquat, body.inertia = mass, com, quat, moments
        body.explicitinertial = True
    _add_objects(spec, triplet, settings)
    settings.apply(spec.option)
    if add is not None:
        add(spec)
    return spec.compile()

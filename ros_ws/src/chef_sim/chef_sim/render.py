# SPDX-License-Identifier: Apache-2.0
"""Pictures of the cell: its three cameras, and an overview for people."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from chef_task import geometry
from chef_task.spaces import CAMERAS, IMAGE_SHAPE

from chef_sim.engine import mujoco
from chef_sim.gl import create_context
from chef_sim.meshes import FINE_FACES, VISUAL_FACES
from chef_sim.scene import VISUAL_GROUP, build_model

_PLAIN = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE)


class Renderer:
    """Draws `render` samples off screen.

    Use it from one thread, the one that made it; a process may have several.

    Args:
      triplet: of the objects; a sample that names another changes it.
      width, height: of the pictures, pixels.
      nice: shadows, reflections and multisampling, for people; many times slower.
    """

    def __init__(self, triplet: int = 1, width: int = IMAGE_SHAPE[1], height: int = IMAGE_SHAPE[0],
                 nice: bool = False):
        self.width, self.height, self._nice = width, height, nice
        self._gl = create_context(width, height)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[[0, VISUAL_GROUP]] = 1
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._perturb = mujoco.MjvPerturb()
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._context = None
        self._qpos = None
        self._use(triplet)

    def _use(self, triplet: int) -> None:
        faces = FINE_FACES if self._nice else VISUAL_FACES
        model = self._build(triplet, faces)
        model.vis.global_.offwidth, model.vis.global_.offheight = self.width, self.height
        model.vis.quality.offsamples = 4 if self._nice else 0
        model.vis.quality.shadowsize = 4096 if self._nice else 0
        self._gl.make_current()
        if self._context is not None:
            self._context.free()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 50)
        self.model, self._data, self._qpos = model, mujoco.MjData(model), None
        self._cameras = {n: model.camera(n).id for n in (*CAMERAS, 'overview')}
        self.triplet = triplet

    def _build(self, triplet: int, faces: int) -> mujoco.MjModel:
        return build_model(triplet, 'fast', faces=faces)

    def _pose(self, sample: Mapping) -> None:
        if sample.get('triplet', self.triplet) != self.triplet:
            self._use(sample['triplet'])
        qpos = np.asarray(sample['qpos'], float)
        if qpos.shape != self._data.qpos.shape:
            raise ValueError(f'a render sample has qpos of shape {qpos.shape}, '
                             f'expected {self._data.qpos.shape}')
        if self._qpos is None or not np.array_equal(qpos, self._qpos):
            self._qpos = qpos.copy()
            self._data.qpos[:] = qpos
            mujoco.mj_kinematics(self.model, self._data)
            mujoco.mj_comPos(self.model, self._data)
            mujoco.mj_camlight(self.model, self._data)

    def render(self, camera: str, sample: Mapping) -> np.ndarray:
        """The picture of a camera, uint8 RGB [height, width, 3].

        Args:
          camera: one of `chef_task.spaces.CAMERAS`, or 'overview'.
          sample: of the stream `render`: 'qpos' [nq] and, optionally, 'triplet'.
        """
        if camera not in self._cameras:
            raise ValueError(f'camera {camera!r} does not exist, '
                             f'choose one of {", ".join(self._cameras)}')
        self._pose(sample)
        self._gl.make_current()
        self._camera.fixedcamid = self._cameras[camera]
        mujoco.mjv_updateScene(self.model, self._data, self._option, self._perturb, self._camera,
                               mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        if not self._nice:
            for flag in _PLAIN:  # each update may switch them on again
                self._scene.flags[flag] = 0
        image = np.empty((self.height, self.width, 3), np.uint8)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(image, None, self._viewport, self._context)
        return image[::-1].copy()

    def view(self, camera: str) -> tuple[float, np.ndarray]:
        """How a camera stands: its vertical field of view, degrees, and the pose [7] of its optical frame (x right,
        y down, z ahead) in the robot's base frame."""
        if camera not in self._cameras:
            raise ValueError(f'camera {camera!r} does not exist, choose one of {", ".join(self._cameras)}')
        return _view(self.model, self._cameras[camera])

    def close(self) -> None:
        """Frees what the graphics driver holds."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None
            self._gl.free()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _view(model: mujoco.MjModel, number: int) -> tuple[float, np.ndarray]:
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    axes = data.cam_xmat[number].reshape(3, 3) * [1, -1, -1]      # mujoco's y is up, its z behind
    return float(model.cam_fovy[number]), np.concatenate([data.cam_xpos[number], geometry.from_matrix(axes)])


def views() -> dict[str, tuple[float, np.ndarray]]:
    """How the cell's cameras stand, by name, as `Renderer.view` has it; needs no graphics."""
    model = build_model(1, 'fast')
    return {name: _view(model, model.camera(name).id) for name in CAMERAS}


def render_overview(width: int, height: int, sample: Mapping, triplet: int = 1,
                    camera: str = 'overview') -> np.ndarray:
    """A picture for documents, with shadows, uint8 RGB [height, width, 3]."""
    with Renderer(sample.get('triplet', triplet), width, height, nice=True) as renderer:
        return renderer.render(camera, sample)

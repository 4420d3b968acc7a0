# SPDX-License-Identifier: Apache-2.0
"""Pictures of the cell with a flat printed board in it, to check a calibration against cameras that are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chef_sim.engine import mujoco
from chef_sim.render import Renderer
from chef_sim.scene import VISUAL_GROUP, build_model

_MARGIN_M = 0.008       # of white card around the print
_BODY = 'board'


class BoardRenderer(Renderer):
    """A `Renderer` whose scene has a board: a card of no thickness, printed on one side.

    The board's frame has its origin in the print's upper left corner, x to the right, y down, z into the card.

    Args:
      picture: [H, W] uint8, the print.
      size_m: its width and height, m.
      width, height: of the pictures, pixels.
    """

    def __init__(self, picture: np.ndarray, size_m: Sequence[float], width: int, height: int):
        per_m = picture.shape[1] / size_m[0]
        margin = round(_MARGIN_M * per_m)
        self._print = np.pad(picture, margin, constant_values=255)
        self._low = -margin / per_m
        self._high = (picture.shape[1] + margin) / per_m, (picture.shape[0] + margin) / per_m
        super().__init__(1, width, height)

    def _build(self, triplet: int, faces: int) -> mujoco.MjModel:
        return build_model(triplet, 'fast', faces=faces, add=self._add)

    def _add(self, spec: mujoco.MjSpec) -> None:
        height, width = self._print.shape
        texture = spec.add_texture(name=_BODY, type=mujoco.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=3)
        texture.data = np.repeat(self._print[..., None], 3, axis=2).tobytes()
        material = spec.add_material(name=_BODY, specular=0.0, emission=0.3)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = _BODY
        low, (right, bottom) = self._low, self._high
        corners = np.array([[low, low, 0], [right, low, 0], [right, bottom, 0], [low, bottom, 0]])
        spec.add_mesh(name=_BODY, uservert=corners.ravel(), userface=[0, 2, 1, 0, 3, 2],
                      usertexcoord=[0, 0, 1, 0, 1, 1, 0, 1], inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
        # a flat card's own inertia rounds to one that cannot be
        body = spec.worldbody.add_body(name=_BODY, mocap=True, pos=[0, 0, -1], explicitinertial=True, mass=0.1,
                                       inertia=[1e-3] * 3)
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=_BODY, material=_BODY, contype=0, conaffinity=0,
                      group=VISUAL_GROUP)

    def draw(self, camera: str, qpos: np.ndarray, board: np.ndarray) -> np.ndarray:
        """The picture of a camera, RGB uint8 [height, width, 3]; qpos: of the scene; board: its pose [7] in the base."""
        self._data.mocap_pos[0], self._data.mocap_quat[0] = board[:3], board[3:]
        self._qpos = None       # the board may have moved while nothing else did
        return self.render(camera, {'qpos': qpos})

# SPDX-License-Identifier: Apache-2.0
"""What one records to calibrate a cell, rendered from the simulated one, whose cameras are known to the last digit.

    python -m chef_control.fakes.calibration_session FOLDER [--size 1280x960] [--images 20] [--seed 0]

FOLDER then has `intrinsics/` and `extrinsics/` as `./chef calibrate record` leaves them, `board.yaml`, and the truth in
`truth.yaml`, a calibration file of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import yaml

from chef_control.calibration import file
from chef_control.calibration.board import Board
from chef_control.calibration.camera import Camera, Intrinsics
from chef_sim.boards import BoardRenderer
from chef_sim.engine import mujoco
from chef_sim.scene import TCP_SITE
from chef_sim.world import HOME
from chef_task import geometry, settings
from chef_task.spaces import CAMERAS

DISTORTION = np.array([-0.12, 0.06, 0.0004, -0.0006, 0.0])     # k1 k2 p1 p2 k3, as of a lens of the usual kind
_NEAR_M, _FAR_M = 0.35, 0.60        # of a board held before a camera
_TILT_RAD = 0.6
_FACING = 0.55                      # cosine of the angle between card and line of sight, from which corners are found
_TRIES = 1000
_PLACE_LOW_M, _PLACE_HIGH_M = (0.54, -0.09, 0.34), (0.66, 0.09, 0.40)      # of the tcp while it shows the board
_YAW_RAD, _LEAN_RAD = 0.4, 0.3      # from facing a camera, and from upright


class Session:
    """Pictures of a board by the simulated cell's cameras, with lenses that distort.

    Args:
      size: width and height of the pictures.
      distortion: [5], of all cameras.
      noise: standard deviation of the pixels' noise, of 255.
    """

    def __init__(self, board: Board, size: tuple[int, int] = (1280, 960), distortion: np.ndarray = DISTORTION,
                 noise: float = 2.0, seed: int = 0):
        self.board, self._noise, self._rng = board, noise, np.random.default_rng(seed)
        self._renderer = BoardRenderer(board.picture(48), board.size_m, *size)
        self.cameras: dict[str, Camera] = {}
        self._maps = {}
        for name in CAMERAS:
            fovy, pose = self._renderer.view(name)
            ideal = Intrinsics.pinhole(*size, fovy)
            intrinsics = Intrinsics(*size, ideal.matrix, np.asarray(distortion, float))
            self.cameras[name] = Camera(name, intrinsics, pose)
            x, y = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
            grid = np.stack([x.ravel(), y.ravel()], axis=1)[:, None]
            flat = cv2.undistortPoints(grid, ideal.matrix, intrinsics.distortion, P=ideal.matrix)[:, 0]
            self._maps[name] = flat.reshape(size[1], size[0], 2).astype(np.float32)
        model = self._renderer.model
        self._data = mujoco.MjData(model)
        self._arm = [int(model.joint(f'arm/right_j{i}').qposadr[0]) for i in range(7)]
        self._dofs = [int(model.joint(f'arm/right_j{i}').dofadr[0]) for i in range(7)]
        self._rest = np.array(self._data.qpos)
        for name in ('red', 'green', 'blue'):   # an empty basket
            self._rest[int(model.joint(name).qposadr[0]) + 2] = -1.0
        # held in the fingers, hanging from the pinch, and not quite straight
        width, height = board.size_m
        tilt = np.array([np.cos(0.06), np.sin(0.06) * 0.6, 0.0, np.sin(0.06) * 0.8])
        axes = np.stack([[1, 0, 0], [0, 0, 1], [0, -1, 0]], axis=1)     # x along the tool's x, y down its z
        self.on_tool = np.array([-width / 2, 0.002, 0.16, *geometry.quat_multiply(geometry.from_matrix(axes), tilt)])

    def close(self) -> None:
        self._renderer.close()

    def _take(self, name: str, qpos: np.ndarray, board: np.ndarray) -> np.ndarray:
        image = self._renderer.draw(name, qpos, board)
        image = cv2.remap(image, self._maps[name], None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.clip(image + self._rng.normal(0, self._noise, image.shape), 0, 255).astype(np.uint8)

    def held(self, name: str, count: int) -> Iterator[np.ndarray]:
        """`count` pictures of the board held before a camera."""
        camera, rng = self.cameras[name], self._rng
        qpos = self._posture(HOME + np.array([0, -0.5, 0, 0, 0, 0, 0]))
        half = np.tan(np.arctan2(camera.intrinsics.height / 2, camera.intrinsics.focal_px))
        done = 0
        while done < count:
            distance = rng.uniform(_NEAR_M, _FAR_M)
            turn = np.concatenate([[1.0], np.tan(rng.uniform(-_TILT_RAD, _TILT_RAD, 3) / 2)])
            turn /= np.linalg.norm(turn)
            middle = np.array([*rng.uniform(-0.9, 0.9, 2) * half * distance, distance])
            middle[0] *= camera.intrinsics.width / camera.intrinsics.height
            corner = middle - geometry.rotate(turn, np.array([*self.board.size_m, 0]) / 2)
            image = self._take(name, qpos, geometry.compose(camera.pose, np.concatenate([corner, turn])))
            if self.board.detect(image) is not None:
                done += 1
                yield image

    def shown(self, count: int) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Poses of the arm at which some camera sees the board on the tool, until each has `count`: the tcp's pose [7] and
        the pictures of those cameras."""
        left = dict.fromkeys(self.cameras, count)
        for _ in range(_TRIES):
            open_ = [c for c, n in left.items() if n]
            if not open_:
                return
            qpos = self._reach(self._rng.uniform(_PLACE_LOW_M, _PLACE_HIGH_M), self.cameras[self._rng.choice(open_)])
            tool = self._tool()
            board = geometry.compose(tool, self.on_tool)
            images = {}
            for name, camera in self.cameras.items():
                if left[name] and self._in_sight(camera, board):
                    image = self._take(name, qpos, board)
                    if self.board.detect(image) is not None:
                        images[name] = image
                        left[name] -= 1
            if images:
                yield tool, images
        raise RuntimeError(f'the board was not seen often enough, missing: {left}')

    def _in_sight(self, camera: Camera, board: np.ndarray) -> bool:
        """Whether its printed side is turned to the camera and all of it is in the picture, if nothing hides it."""
        width, height = self.board.size_m
        corners = geometry.compose(board, np.array([[x, y, 0, 1, 0, 0, 0] for x in (0, width) for y in (0, height)]))[:, :3]
        sight = corners.mean(axis=0) - camera.pose[:3]
        if geometry.rotate(board[3:], [0.0, 0, 1]) @ sight < _FACING * np.linalg.norm(sight):
            return False
        if np.any((corners @ camera.rotation.T + camera.translation)[:, 2] < 0.1):
            return False
        pixels = camera.project(corners)
        return bool(np.all(pixels > 10) and np.all(pixels < np.array([camera.intrinsics.width, camera.intrinsics.height]) - 10))

    def lying(self, pose: np.ndarray) -> dict[str, np.ndarray]:
        """A picture of each camera of the board lying at a pose [7] in the base."""
        qpos = self._posture(HOME + np.array([0, -0.5, 0, 0, 0, 0, 0]))
        return {name: self._take(name, qpos, pose) for name in self.cameras}

    def _posture(self, q: np.ndarray) -> np.ndarray:
        self._data.qpos[:] = self._rest
        self._data.qpos[self._arm] = q
        mujoco.mj_kinematics(self._renderer.model, self._data)
        return self._data.qpos.copy()

    def _reach(self, place: np.ndarray, camera: Camera) -> np.ndarray:
        """The scene's qpos with the tcp near a place, the board about facing a camera: damped least squares from `HOME`,
        as far as they come in some steps."""
        to = camera.pose[:3] - place
        yaw = np.arctan2(to[1], to[0]) + self._rng.uniform(-_YAW_RAD, _YAW_RAD)
        facing, down = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([0, 0, -1.0])      # the tool's y and z
        axes = np.stack([np.cross(facing, down), facing, down], axis=1)
        lean = np.concatenate([[1.0], np.tan(self._rng.uniform(-_LEAN_RAD, _LEAN_RAD, 3) / 2)])
        wanted = geometry.quat_multiply(geometry.from_matrix(axes), lean / np.linalg.norm(lean))
        model, data = self._renderer.model, self._data
        jacobian, site = np.zeros((6, model.nv)), model.site(TCP_SITE).id
        q, error = HOME.copy(), np.zeros(6)
        for _ in range(60):
            self._posture(q)
            mujoco.mj_comPos(model, data)
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
            now = self._tool()
            turn = geometry.quat_multiply(wanted, geometry.quat_conjugate(now[3:]))
            error[:3], error[3:] = place - now[:3], 2 * np.sign(turn[0]) * turn[1:]
            j = jacobian[:, self._dofs]
            q += np.clip(j.T @ np.linalg.solve(j @ j.T + 1e-3 * np.eye(6), error), -0.3, 0.3)
        return self._posture(q)

    def _tool(self) -> np.ndarray:
        site = self._data.site(TCP_SITE)
        return np.concatenate([site.xpos, geometry.from_matrix(site.xmat.reshape(3, 3))])

    def truth(self) -> file.Calibration:
        """The cameras as a calibration."""
        out = file.Calibration()
        for name, camera in self.cameras.items():
            k = camera.intrinsics
            out = out.with_part(name, 'intrinsics', {
                'width': k.width, 'height': k.height, 'distortion': k.distortion.tolist(),
                'matrix': [float(v) for v in (k.matrix[0, 0], k.matrix[1, 1], k.matrix[0, 2], k.matrix[1, 2])]})
            out = out.with_part(name, 'extrinsics', {'pose': camera.pose.tolist(), 'method': 'truth'})
        return out


def write(session: Session, folder: Path, images: int) -> None:
    """A whole session into a folder."""
    for name in session.cameras:
        (folder / 'intrinsics' / name).mkdir(parents=True, exist_ok=True)
        (folder / 'extrinsics' / name).mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(session.held(name, images)):
            _write(folder / 'intrinsics' / name / f'{i:03d}.png', image)
    poses = {}
    for i, (tool, pictures) in enumerate(session.shown(images)):
        poses[f'{i:03d}'] = tool.tolist()
        for name, image in pictures.items():
            _write(folder / 'extrinsics' / name / f'{i:03d}.png', image)
    (folder / 'extrinsics' / 'poses.json').write_text(json.dumps(poses, indent=1))
    (folder / 'board.yaml').write_text(yaml.safe_dump(settings.to_dict(session.board)))
    file.save(folder / 'truth.yaml', session.truth())


def _write(path: Path, image: np.ndarray) -> None:
    path.write_bytes(cv2.imencode('.png', image[..., ::-1])[1].tobytes())


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m chef_control.fakes.calibration_session', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--size', default='1280x960', help='default: %(default)s')
    parser.add_argument('--images', type=int, default=20, help='of each camera and kind (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    width, height = (int(v) for v in options.size.split('x'))
    write(Session(Board(), (width, height), seed=options.seed), options.folder, options.images)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())

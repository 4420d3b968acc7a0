# SPDX-License-Identifier: Apache-2.0
"""Where the cameras are in the robot's base frame, from pictures of a board on the gripper or on the table.

On the gripper, neither the camera's pose in the base nor the board's on the tool is known. The closed solution of Park
and Martin (1994) begins; least squares on the corners' reprojection finish, for all cameras at once, since they share the
one board. (OpenCV's calibrateHandEye is gone from its version 5.)

On the table, the board's pose in the base is known, from touching some of its corners with the tool's tip or otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from chef_control.calibration.board import Board, CalibrationError, Seen
from chef_control.calibration.camera import Camera, Intrinsics
from chef_control.tracking.fit import matrices
from chef_task import geometry

LEAST_POSES = 5
LEAST_TURN_RAD = 0.2        # between the arm's poses about two different axes, else the solution is not unique
_ROBUST_PX = 1.0            # scale beyond which a corner's residual counts less
_OUTLIER_PX = 5.0
_ROUNDS = 40                # of least squares; a good start needs ten


@dataclass(frozen=True)
class ExtrinsicsResult:
    """cameras: by name; board: [7], its pose on the tool, or in the base for one on the table; rms_px: of each camera;
    deviation: of each camera, [2], of position (m) and rotation (rad) as least squares estimate it; views: used of each;
    pixels, residuals: of each camera, [N, 2]."""

    cameras: dict[str, Camera]
    board: np.ndarray
    rms_px: dict[str, float]
    deviation: dict[str, np.ndarray]
    views: dict[str, int]
    pixels: dict[str, np.ndarray]
    residuals: dict[str, np.ndarray]


def pose_matrix(pose: np.ndarray) -> np.ndarray:
    """[4, 4] of a pose [7]."""
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = matrices(np.asarray(pose, float)[3:]), np.asarray(pose, float)[:3]
    return m


def matrix_pose(m: np.ndarray) -> np.ndarray:
    """[7] of a matrix [4, 4]."""
    return np.concatenate([m[:3, 3], geometry.from_matrix(m[:3, :3])])


def board_pose(board: Board, seen: Seen, intrinsics: Intrinsics) -> np.ndarray:
    """The board's pose [7] in the camera's optical frame, from one picture.

    Raises:
      CalibrationError: the corners do not determine it.
    """
    good, turn, place = cv2.solvePnP(board.corners[seen.ids], seen.pixels, intrinsics.matrix, intrinsics.distortion,
                                     flags=cv2.SOLVEPNP_IPPE)
    if not good:
        raise CalibrationError('the corners do not determine the pose of the board')
    turn, place = cv2.solvePnPRefineLM(board.corners[seen.ids], seen.pixels, intrinsics.matrix, intrinsics.distortion,
                                       turn, place)
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = cv2.Rodrigues(turn)[0], place[:, 0]
    return matrix_pose(m)


def touched_board(board: Board, touched: Mapping[int, Sequence[float]]) -> np.ndarray:
    """The pose [7] in the base of a board, some of whose inner corners were touched; by id, positions [3], m.

    The rotation that fits best by singular values (Arun, Huang and Blostein 1987).

    Raises:
      CalibrationError: too few, in one line, or farther apart than the board's are.
    """
    ids = [i for i in touched if 0 <= int(i) < len(board.corners)]
    if len(ids) < 3 or len(ids) < len(touched):
        raise CalibrationError(f'three corners of 0..{len(board.corners) - 1} are needed at least, not {sorted(touched)}')
    a, b = board.corners[[int(i) for i in ids]], np.array([touched[i] for i in ids], float)
    u, s, v = np.linalg.svd((a - a.mean(axis=0)).T @ (b - b.mean(axis=0)))
    if s[1] < 1e-6:
        raise CalibrationError('the corners that were touched lie in one line')
    rotation = v.T @ np.diag([1, 1, np.linalg.det(v.T @ u.T)]) @ u.T
    place = b.mean(axis=0) - rotation @ a.mean(axis=0)
    worst = float(np.linalg.norm(a @ rotation.T + place - b, axis=1).max())
    if worst > 0.005:
        raise CalibrationError(f'the touched corners are up to {worst * 1000:.1f} mm from where the board has them: is '
                               'square_m right, and the order of the corners?')
    return np.concatenate([place, geometry.from_matrix(rotation)])


def calibrate_on_tool(board: Board, intrinsics: Mapping[str, Intrinsics], seen: Mapping[str, Mapping[str, Seen]],
                      tools: Mapping[str, np.ndarray]) -> ExtrinsicsResult:
    """Of all cameras, from pictures of a board that the gripper holds or wears.

    Args:
      seen: by camera, then by name of the pose.
      tools: by name of the pose: [7] of the arm's tcp in the base.

    Raises:
      CalibrationError: too few poses, or too alike.
    """
    seen = {c: {n: s for n, s in of.items() if n in tools} for c, of in seen.items()}
    starts = {}
    for camera, of in seen.items():
        if len(of) < LEAST_POSES:
            raise CalibrationError(f'{camera}: the board was found at {len(of)} poses of the arm, {LEAST_POSES} are needed '
                                   'at least')
        _check_turns(camera, [tools[n] for n in of])
        starts[camera] = _hand_eye(board, intrinsics[camera], of, tools)
    def error(camera: str) -> float:
        sight = _Sight(board, intrinsics[camera], seen[camera], tools)
        return float(np.median(np.linalg.norm(sight.residuals(*starts[camera]), axis=1)))
    best = min(starts, key=error)
    return _refine(board, intrinsics, seen, tools, {c: s[0] for c, s in starts.items()}, starts[best][1])


def calibrate_on_table(board: Board, intrinsics: Mapping[str, Intrinsics], seen: Mapping[str, Mapping[str, Seen]],
                       board_in_base: np.ndarray) -> ExtrinsicsResult:
    """Of all cameras, from pictures of a board that lies still at a known pose [7] in the base."""
    starts = {}
    for camera, of in seen.items():
        if not of:
            raise CalibrationError(f'{camera}: the board was found in no picture')
        in_camera = board_pose(board, max(of.values(), key=lambda s: len(s.ids)), intrinsics[camera])
        starts[camera] = geometry.compose(board_in_base, geometry.inverse(in_camera))
    still = {n: geometry.IDENTITY_POSE for of in seen.values() for n in of}
    return _refine(board, intrinsics, seen, still, starts, board_in_base, board_known=True)


def _check_turns(camera: str, poses: Sequence[np.ndarray]) -> None:
    """The arm must turn about two axes that are not parallel (Tsai and Lenz 1989)."""
    turns = []
    for pose in poses[1:]:
        q = geometry.quat_multiply(geometry.quat_conjugate(poses[0][3:]), pose[3:])
        turns.append(2 * np.sign(q[0] or 1.0) * q[1:])       # about its axis by 2 sin(half the angle)
    second = np.linalg.svd(np.array(turns), compute_uv=False)[1] / np.sqrt(len(turns))
    if second < LEAST_TURN_RAD / 2:
        raise CalibrationError(f'{camera}: the arm turned about one axis only, or hardly: tilt the board about two, '
                               'by 20 degrees and more')


def _hand_eye(board: Board, intrinsics: Intrinsics, seen: Mapping[str, Seen],
              tools: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(the camera's pose in the base, the board's on the tool), [7] each, for a start."""
    names = list(seen)
    boards = [pose_matrix(board_pose(board, seen[n], intrinsics)) for n in names]
    arm = [np.linalg.inv(pose_matrix(tools[n])) for n in names]
    # arm_i X boards_i is the same for all i: with A = arm_j^-1 arm_i and B = boards_j boards_i^-1, A X = X B
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    a = [np.linalg.inv(arm[j]) @ arm[i] for i, j in pairs]
    b = [boards[j] @ np.linalg.inv(boards[i]) for i, j in pairs]
    turns_a, turns_b = (Rotation.from_matrix([m[:3, :3] for m in of]).as_rotvec() for of in (a, b))
    # half a turn may come out either way round
    clear = np.linalg.norm(turns_a, axis=1) < 3.0
    rotation = Rotation.align_vectors(turns_a[clear], turns_b[clear])[0].as_matrix()
    left = np.concatenate([m[:3, :3] - np.eye(3) for m in a])
    right = np.concatenate([rotation @ n[:3, 3] - m[:3, 3] for m, n in zip(a, b)])
    camera = np.eye(4)
    camera[:3, :3], camera[:3, 3] = rotation, np.linalg.lstsq(left, right, rcond=None)[0]
    # the pose in the middle of those that each picture gives
    on_tool = [matrix_pose(a @ camera @ b) for a, b in zip(arm, boards)]
    middle = np.median([p[:3] for p in on_tool], axis=0)
    return matrix_pose(camera), min(on_tool, key=lambda p: np.linalg.norm(p[:3] - middle))


class _Sight:
    """All that one camera saw of the board, as arrays, so that a residual takes one projection."""

    def __init__(self, board: Board, intrinsics: Intrinsics, seen: Mapping[str, Seen], tools: Mapping[str, np.ndarray]):
        self._intrinsics = intrinsics
        self.pixels = np.concatenate([s.pixels for s in seen.values()])
        self._corners = np.concatenate([board.corners[s.ids] for s in seen.values()])
        view = np.repeat(np.arange(len(seen)), [len(s.ids) for s in seen.values()])
        poses = np.stack([tools[n] for n in seen])
        self._turns, self._places = matrices(poses[:, 3:])[view], poses[view, :3]

    def residuals(self, camera: np.ndarray, on_tool: np.ndarray) -> np.ndarray:
        """[N, 2], pixels, of the camera's and the board's poses [7]."""
        on = self._corners @ matrices(on_tool[3:]).T + on_tool[:3]
        base = (self._turns @ on[:, :, None])[..., 0] + self._places
        inside = (base - camera[:3]) @ matrices(camera[3:])
        none = np.zeros(3)
        pixels, _ = cv2.projectPoints(inside, none, none, self._intrinsics.matrix, self._intrinsics.distortion)
        return pixels[:, 0] - self.pixels


def _moved(pose: np.ndarray, step: np.ndarray) -> np.ndarray:
    """A pose [7] changed by a step [6]: m, and rad about the frame's own axes."""
    angle = np.linalg.norm(step[3:])
    q = np.concatenate([[np.cos(angle / 2)], step[3:] * (np.sinc(angle / 2 / np.pi) / 2)])
    return np.concatenate([pose[:3] + step[:3], geometry.quat_multiply(pose[3:], q)])


def _refine(board: Board, intrinsics: Mapping[str, Intrinsics], seen: Mapping[str, Mapping[str, Seen]],
            tools: Mapping[str, np.ndarray], starts: Mapping[str, np.ndarray], on_tool: np.ndarray,
            board_known: bool = False) -> ExtrinsicsResult:
    names = list(seen)
    sights = {c: _Sight(board, intrinsics[c], seen[c], tools) for c in names}

    def poses(x: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        steps = x.reshape(-1, 6)
        return ({n: _moved(starts[n], s) for n, s in zip(names, steps)},
                on_tool if board_known else _moved(on_tool, steps[-1]))

    def residuals(x: np.ndarray) -> dict[str, np.ndarray]:
        cameras, on = poses(x)
        return {c: sights[c].residuals(cameras[c], on) for c in names}

    size = 6 * (len(names) + (not board_known))
    solved = least_squares(lambda x: np.concatenate([r.ravel() for r in residuals(x).values()]), np.zeros(size),
                           loss='soft_l1', f_scale=_ROBUST_PX, x_scale=1e-2, max_nfev=_ROUNDS)
    cameras, on = poses(solved.x)
    left = residuals(solved.x)
    good = {c: np.linalg.norm(r, axis=1) < _OUTLIER_PX for c, r in left.items()}
    for c, g in good.items():
        if g.mean() < 0.5:
            raise CalibrationError(f'{c}: most corners lie more than {_OUTLIER_PX:g} pixels from where the result has them: '
                                   'are the poses of the arm those of the pictures, is square_m right?')
    noise = np.sqrt(np.mean(np.concatenate([r[good[c]].ravel() for c, r in left.items()])**2))
    deviations = np.sqrt(np.diag(np.linalg.pinv(solved.jac.T @ solved.jac))) * noise
    of = {c: deviations[6 * i:6 * i + 6].reshape(2, 3) for i, c in enumerate(names)}
    return ExtrinsicsResult(
        {c: Camera(c, intrinsics[c], cameras[c]) for c in names}, on,
        {c: float(np.sqrt((r[good[c]]**2).sum(axis=1).mean())) for c, r in left.items()},
        {c: np.linalg.norm(d, axis=1) for c, d in of.items()}, {c: len(seen[c]) for c in names},
        {c: sights[c].pixels for c in names}, left)

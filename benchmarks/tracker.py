# SPDX-License-Identifier: Apache-2.0
"""The tracker by colour on pictures of the simulated cell, against the true poses; and the calibration it needs.

    ./chef bench tracker [--scenes 1000] [--size 128x128] [--calibrated] [--plain] [--seed 0] [--log tracker.jsonl]

Scenes: as episodes begin, moments of episodes of the scripted policy (grasped, lifted, stacked), and heaps. Every scene is
tracked by itself, without what was seen before. Every picture has noise, soft focus, a brightness and a white balance of its
own, unless --plain. --calibrated takes cameras calibrated from rendered boards, and reports them
against the truth first. The log holds a line a
scene; a call with the same log goes on where the last one stopped, and ends with the tables of all that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from _tracker_scenes import Scene, scenes
from _tracker_tables import tables

from chef_control.calibration.board import Board
from chef_control.calibration.camera import Camera, Intrinsics
from chef_control.calibration.extrinsics import calibrate_on_tool
from chef_control.calibration.intrinsics import calibrate_intrinsics
from chef_control.drivers.cameras import crop_and_scale
from chef_control.fakes.calibration_session import Session
from chef_control.simulated_cell import SimulatedCell
from chef_control.tracking.shapes import triplet_shapes
from chef_control.tracking.tracker import Tracker
from chef_sim.render import Renderer, views
from chef_task import geometry
from chef_task.cell import CellConfig
from chef_task.rewards import RewardInputs, rewards
from chef_task.spaces import CAMERAS, OBJECTS

CONFIG = Path(__file__).resolve().parents[1] / 'config' / 'cells' / 'sim.yaml'
LARGEST = (640, 480)
BOARD_IMAGES = 20


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a real camera would give it: a brightness and a white balance of its own, soft focus, noise; RGB uint8."""
    gain = rng.uniform(0.7, 1.15) * rng.uniform(0.93, 1.07, 3)
    soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8)).astype(np.float32) * gain.astype(np.float32)
    return np.clip(soft + rng.normal(0.0, 5.0, image.shape), 0, 255).astype(np.uint8)


def native(size: tuple[int, int]) -> tuple[int, int]:
    """Pixels that are rendered for pictures of a size; they are cropped and scaled as the camera drivers do it."""
    return LARGEST if size[1] > LARGEST[1] // 4 + 20 else (LARGEST[0] // 2, LARGEST[1] // 2)


def true_cameras(size: tuple[int, int]) -> list[Camera]:
    return [Camera(n, Intrinsics.pinhole(*size, fovy), pose) for n, (fovy, pose) in views().items()]


def calibrated_cameras(size: tuple[int, int], seed: int) -> list[Camera]:
    """The cameras as calibrated from rendered boards, with lenses that distort; prints how far they are from the truth."""
    board = Board()
    session = Session(board, seed=seed)
    intrinsics, found, tools = {}, {c: {} for c in CAMERAS}, {}
    print('| camera | intrinsics, px rms | f, % off | centre, px off | extrinsics, px rms | position, mm off '
          '| rotation, deg off |\n' + '|---' * 7 + '|')
    rms = {}
    for name in CAMERAS:
        held = {str(i): board.detect(image) for i, image in enumerate(session.held(name, BOARD_IMAGES))}
        result = calibrate_intrinsics(board, held)
        intrinsics[name], rms[name] = result.intrinsics, result.rms_px
    for i, (tool, pictures) in enumerate(session.shown(BOARD_IMAGES)):
        tools[str(i)] = tool
        for name, image in pictures.items():
            found[name][str(i)] = board.detect(image)
    result = calibrate_on_tool(board, intrinsics, found, tools)
    cameras = []
    for name, camera in result.cameras.items():
        truth = session.cameras[name]
        k, t = camera.intrinsics.matrix, truth.intrinsics.matrix
        turn = np.degrees(2 * np.arccos(min(1.0, abs(camera.pose[3:] @ truth.pose[3:]))))
        print(f'| {name} | {rms[name]:.3f} | {100 * (k[0, 0] / t[0, 0] - 1):+.3f} '
              f'| {k[0, 2] - t[0, 2]:+.2f} {k[1, 2] - t[1, 2]:+.2f} '
              f'| {result.rms_px[name]:.3f} | {1e3 * np.linalg.norm(camera.pose[:3] - truth.pose[:3]):.2f} | {turn:.3f} |')
        # the scenes are drawn without distortion: what is left of the calibration's is that of an undistorted picture
        straight = Intrinsics(camera.intrinsics.width, camera.intrinsics.height, k)
        cameras.append(Camera(name, straight.cropped(*size), camera.pose))
    session.close()
    return cameras


def placed(shape, pose: np.ndarray) -> np.ndarray:
    """The corners of a shape at a pose [7], [V, 3]."""
    return np.array([geometry.rotate(pose[3:], c) for c in shape.corners]) + pose[:3]


def visible(scene: Scene, cameras: list[Camera], shapes, images: dict[str, np.ndarray]) -> np.ndarray:
    """[3, C], which share of each object's true silhouette shows in each picture as it was drawn."""
    out = np.zeros((3, len(cameras)))
    for i, (shape, pose) in enumerate(zip(shapes, scene.poses)):
        corners = placed(shape, pose)
        for j, camera in enumerate(cameras):
            hull = cv2.convexHull(np.round(camera.project(corners)).astype(np.int32))[:, 0]
            low = hull.min(axis=0) - 1
            whole = np.zeros((hull.max(axis=0) - low + 2)[::-1], np.uint8)      # also what is beyond the picture's edge
            cv2.fillConvexPoly(whole, hull - low, 1)
            image = images[camera.name].astype(np.int16)
            rest = image.sum(axis=2) - image[..., i]
            shown = (image[..., i] > rest + 20).sum()
            out[i, j] = min(1.0, shown / max(1, whole.sum()))
    return out


def corner_error(shape, pose: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of the true hull's corners from the nearest estimated one, m: of orientation too, but for symmetry."""
    apart = placed(shape, truth)[:, None] - placed(shape, pose)
    return float(np.linalg.norm(apart, axis=-1).min(axis=1).mean())


def reward(scene: Scene, poses: np.ndarray) -> np.ndarray:
    return rewards(RewardInputs(poses[0, :3], poses[2, :3], scene.pinch, np.float64(scene.gripper), np.int64(scene.grasp)))


def measure(options: argparse.Namespace, done: int, log) -> None:
    """Tracks the scenes that the log lacks."""
    size = tuple(int(v) for v in options.size.split('x'))
    drawn_size = native(size)
    truth = true_cameras(drawn_size)
    cameras = calibrated_cameras(drawn_size, options.seed) if options.calibrated else truth
    shapes = {t: triplet_shapes(t) for t in range(1, 6)}
    trackers = {t: Tracker(cameras, shapes[t]) for t in shapes}
    cell = SimulatedCell(CellConfig.load(CONFIG))
    renderer = Renderer(1, *drawn_size)
    for number, scene in enumerate(scenes(cell, options.scenes // 5, options.seed)):
        if number < done:
            continue
        rng = np.random.default_rng([options.seed, number])
        drawn = {c: renderer.render(c, scene.sample) for c in CAMERAS}
        pictures = {c: crop_and_scale(image, (size[1], size[0], 3)) for c, image in drawn.items()}
        if not options.plain:
            pictures = {c: degrade(image, rng) for c, image in pictures.items()}
        tracker = trackers[scene.triplet]
        tracker.forget()
        started = time.process_time()
        found = tracker.track(pictures, 1)
        took = time.process_time() - started
        poses = np.array([o.pose for o in found])
        share = visible(scene, truth, shapes[scene.triplet], drawn)
        row = {'kind': scene.kind, 'triplet': scene.triplet, 'ms': round(took * 1e3, 2),
               'grasp': scene.grasp, 'seen': share.round(3).tolist(), 'views': [o.views for o in found],
               'dropped': [o.dropped for o in found], 'confidence': [round(o.confidence, 4) for o in found],
               'sigma_mm': [round(min(o.sigma_m, 9.999) * 1e3, 3) for o in found],
               'error_mm': [round(float(np.linalg.norm(p[:3] - t[:3])) * 1e3, 3) if o.views else None
                            for o, p, t in zip(found, poses, scene.poses)],
               'corners_mm': [round(corner_error(s, p, t) * 1e3, 3) if o.views else None
                              for o, s, p, t in zip(found, shapes[scene.triplet], poses, scene.poses)],
               'true': reward(scene, scene.poses).tolist(),
               'tracked': reward(scene, poses).tolist() if found[0].views and found[2].views else None}
        log.write(json.dumps(row) + '\n')
        log.flush()
    renderer.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench tracker', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scenes', type=int, default=1000, help='over all triplets (default: %(default)s)')
    parser.add_argument('--size', default='128x128', help='of the pictures that are tracked, at most 640x480 '
                        '(default: %(default)s, what the cameras publish)')
    parser.add_argument('--plain', action='store_true', help='pictures as they are rendered')
    parser.add_argument('--calibrated', action='store_true', help='with cameras calibrated from rendered boards')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--log', type=Path, default=Path('tracker.jsonl'), help='default: %(default)s')
    options = parser.parse_args()
    try:
        width, height = (int(v) for v in options.size.split('x'))
        if not (32 <= width <= LARGEST[0] and 32 <= height <= LARGEST[1]):
            raise ValueError
    except ValueError:
        parser.error(f'--size: {options.size!r} is not WIDTHxHEIGHT from 32x32 to {LARGEST[0]}x{LARGEST[1]}')
    try:
        rows = [json.loads(line) for line in options.log.read_text().splitlines()] if options.log.exists() else []
        with options.log.open('a') as log:
            if len(rows) < options.scenes // 5 * 5:
                measure(options, len(rows), log)
        print(tables([json.loads(line) for line in options.log.read_text().splitlines()], OBJECTS))
    except (OSError, ValueError, KeyError) as e:
        print(f'chef bench tracker: {options.log}: {e}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    raise SystemExit(main())

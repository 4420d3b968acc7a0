# SPDX-License-Identifier: Apache-2.0
"""Takes what `./chef calibrate` needs with a cell's own devices, while nothing else uses them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from chef_control import devices
from chef_control.calibration import report
from chef_control.calibration.board import CalibrationError
from chef_control.calibration.session import SERIALS, read_board, read_poses, read_serials
from chef_task.cell import CellConfig

FRESH_S = 1.0       # how long a shot waits for pictures and a pose taken after it was asked for
STILL_M, STILL_RAD = 5e-4, 2e-3     # of the tcp while a shot is taken


class Shots:
    """The newest picture of each camera and pose of the tcp, from devices' threads."""

    def __init__(self, cameras: list[str], arm: bool):
        self._news = threading.Condition()
        self._wanted = [*cameras, *(['tcp'] if arm else [])]
        self._newest: dict[str, dict] = {}
        self._tools: list[tuple[int, np.ndarray]] = []
        self.lost = ''

    def on_batch(self, samples: list[dict]) -> None:
        with self._news:
            for sample in samples:
                self._newest[sample['stream']] = sample
                if sample['stream'] == 'tcp':
                    self._tools = [*self._tools, (sample['stamp'], np.array(sample['pose'], float))][-100:]
            self._news.notify_all()

    def on_lost(self, text: str) -> None:
        with self._news:
            self.lost = text
            self._news.notify_all()

    def take(self, deadline_s: float = FRESH_S) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """(pictures by camera, the tcp's pose [7] or None), all from after this call.

        Raises:
          CalibrationError: a device is lost or silent, or the arm moved meanwhile.
        """
        start, end = time.time_ns(), time.monotonic() + deadline_s
        with self._news:
            while True:
                if self.lost:
                    raise CalibrationError(self.lost)
                silent = [s for s in self._wanted if self._newest.get(s, {'stamp': 0})['stamp'] < start]
                if not silent:
                    break
                if not self._news.wait(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    raise CalibrationError(f'nothing came from {", ".join(silent)} for {deadline_s:g} s')
            images = {s: self._newest[s]['image'] for s in self._wanted if s != 'tcp'}
            if 'tcp' not in self._wanted:
                return images, None
            first = min(self._newest[s]['stamp'] for s in self._wanted)
            poses = [p for stamp, p in self._tools if stamp >= first - 100_000_000]
        return images, _still(poses)


def _still(poses: list[np.ndarray]) -> np.ndarray:
    last = poses[-1]
    for pose in poses:
        turn = 2 * np.arccos(min(1.0, abs(float(pose[3:] @ last[3:]))))
        if np.linalg.norm(pose[:3] - last[:3]) > STILL_M or turn > STILL_RAD:
            raise CalibrationError('the arm moved while the pictures were taken: let it come to rest')
    return last


def record(cell_path: Path, folder: Path, arm: bool = True, ask: Callable[[str], str] = input) -> None:
    """Opens the cell's cameras, and its arm if asked for, and takes a shot each time the operator presses Enter.

    Raises:
      CalibrationError: the cell is not real, a device cannot be opened or is lost, nothing can be written.
    """
    try:
        cell = CellConfig.load(cell_path)
    except ValueError as e:
        raise CalibrationError(e) from None
    if not cell.real:
        raise CalibrationError(f'{cell_path}: a simulated cell needs no calibration')
    cameras = list(cell.devices[devices.CAMERAS])
    shots, opened = Shots(cameras, arm), []
    try:
        for role, name in [*((devices.CAMERAS, c) for c in cameras), *([('arm', '')] if arm else [])]:
            try:
                opened.append(devices.open_device(cell, role, shots.on_batch, shots.on_lost, name))
            except (ValueError, devices.DeviceError) as e:
                raise CalibrationError(f'{cell_path}: {e}') from None
        _keep_serials(cell, cameras, folder)
        _loop(shots, folder, arm, ask)
    finally:
        for device in reversed(opened):
            device.close()


def _keep_serials(cell: CellConfig, cameras: list[str], folder: Path) -> None:
    """Beside the pictures, of which cameras they are; one folder holds pictures of one camera by a name."""
    before = read_serials(folder)
    now = {c: getattr(devices.device_settings(cell, devices.CAMERAS, c), 'serial', '') for c in cameras}
    now = {c: serial for c, serial in now.items() if serial}
    for camera, serial in now.items():
        if before.get(camera, serial) != serial:
            raise CalibrationError(f'{folder}: its pictures of {camera} are of the camera {before[camera]}, this is {serial}')
    if now:
        report.write(folder / SERIALS, json.dumps(before | now, indent=1).encode())


def _loop(shots: Shots, folder: Path, arm: bool, ask: Callable[[str], str]) -> None:
    board = read_board(folder)
    poses = {n: p.tolist() for n, p in read_poses(folder).items()} if arm and (folder / 'poses.json').exists() else {}
    number = max([int(p.stem) for p in folder.glob('*/*.png') if p.stem.isdecimal()], default=-1) + 1
    while True:
        try:
            if ask('Enter: take a shot; q and Enter: done > ').strip().lower() == 'q':
                return
        except EOFError:
            return
        try:
            images, tool = shots.take()
        except CalibrationError as e:
            if shots.lost:
                raise
            print(f'not taken: {e}')
            continue
        name, seen = f'{number:03d}', []
        for camera, image in images.items():
            found = board.detect(image)
            if found is not None:
                seen.append(f'{camera} {len(found.ids)}')
                report.write(folder / camera / f'{name}.png', cv2.imencode('.png', image[..., ::-1])[1].tobytes())
        if not seen:
            print('not taken: no camera sees the board')
            continue
        if tool is not None:
            poses[name] = tool.tolist()
            report.write(folder / 'poses.json', json.dumps(poses, indent=1).encode())
        print(f'{name}: corners seen: {", ".join(seen)}')
        number += 1

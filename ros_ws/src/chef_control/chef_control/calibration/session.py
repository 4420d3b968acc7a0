# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures and poses to calibrate from.

    FOLDER/board.yaml                   # optional: the board, see `board.Board`
    FOLDER/<camera>/<name>.png          # or .jpg, .bmp
    FOLDER/poses.json                   # for a board on the tool: {"<name>": [x, y, z, qw, qx, qy, qz]} of the tcp
    FOLDER/serials.json                 # optional: {"<camera>": "serial number"} of the cameras that took the pictures
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from chef_control.calibration.board import Board, CalibrationError, Seen
from chef_task import settings, yaml_file
from chef_task.yaml_file import is_number, short

SERIALS = 'serials.json'
SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp')


def read_board(folder: Path, given: Path | None = None) -> Board:
    """The board of a file, else of the folder, else of the one above it, else the default one; CalibrationError."""
    found = [p for p in ((given,) if given else (folder / 'board.yaml', folder.parent / 'board.yaml'))
             if p.exists() or given]
    if not found:
        return Board()
    try:
        return settings.build(Board, yaml_file.load(found[0]))
    except ValueError as e:
        text = str(e)
        raise CalibrationError(text if text.startswith(f'{found[0]}') else f'{found[0]}: {text}') from None


def read_image(path: Path) -> np.ndarray:
    """RGB uint8 [H, W, 3]; CalibrationError."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as e:
        raise CalibrationError(f'{path}: cannot be read: {e.strerror}') from None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise CalibrationError(f'{path}: is no picture')
    return np.ascontiguousarray(image[..., ::-1])


def cameras_of(folder: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Names of the folders of pictures; CalibrationError if there are none, or not those that are wanted."""
    if not folder.is_dir():
        raise CalibrationError(f'{folder}: is no folder')
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and _pictures(p))
    for name in wanted:
        if name not in found:
            raise CalibrationError(f'{folder}: has no folder {name} with pictures, only {", ".join(found) or "none"}')
    if not found:
        raise CalibrationError(f'{folder}: has no folder with pictures ({", ".join(SUFFIXES)}) named after a camera')
    return list(wanted) or found


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def detect(board: Board, folder: Path) -> tuple[dict[str, Seen], list[str]]:
    """(what was found of the board by name of the picture, names of the pictures without)."""
    seen, missing = {}, []
    for path in _pictures(folder):
        found = board.detect(read_image(path))
        if found is None:
            missing.append(path.stem)
        else:
            seen[path.stem] = found
    return seen, missing


def read_json(path: Path) -> dict:
    """A mapping; CalibrationError."""
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except OSError as e:
        raise CalibrationError(f'{path}: cannot be read: {e.strerror}') from None
    except (ValueError, RecursionError):
        raise CalibrationError(f'{path}: is no JSON') from None
    if not isinstance(values, dict):
        raise CalibrationError(f'{path}: must be a mapping, not {short(values)}')
    return values


def numbers(values, count: int, where: str) -> np.ndarray:
    """[count] finite numbers of a file; CalibrationError."""
    if not isinstance(values, (list, tuple)) or len(values) != count or not all(map(is_number, values)):
        raise CalibrationError(f'{where} must hold {count} numbers, not {short(values)}')
    return np.array(values, float)


def pose(values, where: str) -> np.ndarray:
    """[7], its quaternion made exactly of length 1; CalibrationError."""
    out = numbers(values, 7, where)
    length = float(np.linalg.norm(out[3:]))
    if not abs(length - 1) < 0.01:
        raise CalibrationError(f'{where}: the quaternion (qw qx qy qz, after x y z) has length {length:.3g}, not 1')
    out[3:] /= length
    return out


def read_serials(folder: Path) -> dict[str, str]:
    """Serial numbers by camera, as far as they are known; CalibrationError."""
    path = folder / SERIALS
    found = read_json(path) if path.exists() else {}
    for name, serial in found.items():
        if not isinstance(serial, str):
            raise CalibrationError(f'{path}: {short(name)} must be text, not {short(serial)}')
    return found


def read_poses(folder: Path) -> dict[str, np.ndarray]:
    """The tcp's poses [7] by name; CalibrationError."""
    path = folder / 'poses.json'
    return {str(n): pose(v, f'{path}: {short(n)}') for n, v in read_json(path).items()}

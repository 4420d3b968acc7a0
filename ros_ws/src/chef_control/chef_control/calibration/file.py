# SPDX-License-Identifier: Apache-2.0
"""The file that keeps a cell's calibration: what was measured, how well, with what and when. YAML, one file a cell.

    chef_calibration: 1                 # version of this format
    cameras:
      basket_front_left:
        serial: '40012345'              # of the camera, so that swapped ones are noticed; may be empty
        intrinsics: {width, height, matrix: [fx, fy, cx, cy], distortion: [k1, k2, p1, p2, k3], rms_px, ...}
        extrinsics: {pose: [x, y, z, qw, qx, qy, qz], rms_px, ...}     # of the optical frame in the robot's base
    workspace: {centre_m: [3], size_m: [3], ...}

Each part holds, besides, `method`, `date` and what it was made from. Parts may be missing: they are measured one by one.
"""

from __future__ import annotations

import copy
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from chef_control.calibration.board import CalibrationError
from chef_control.calibration.camera import Camera, Intrinsics
from chef_control.calibration.workspace import Workspace
from chef_task import yaml_file
from chef_task.yaml_file import is_number, short

FORMAT = 1


@dataclass
class Calibration:
    """What the file holds. intrinsics, poses [7], serials: by camera; parts: the file's own mapping, with what else each
    part tells of itself."""

    intrinsics: dict[str, Intrinsics] = field(default_factory=dict)
    poses: dict[str, np.ndarray] = field(default_factory=dict)
    serials: dict[str, str] = field(default_factory=dict)
    workspace: Workspace | None = None
    parts: dict[str, Any] = field(default_factory=lambda: {'chef_calibration': FORMAT})

    def camera(self, name: str) -> Camera:
        """A camera of which all is known; CalibrationError names what is missing."""
        for what, of in (('intrinsics', self.intrinsics), ('extrinsics', self.poses)):
            if name not in of:
                raise CalibrationError(f'camera {name} has no {what} yet: ./chef calibrate {what}')
        return Camera(name, self.intrinsics[name], self.poses[name])

    def with_part(self, camera: str, part: str, values: Mapping[str, Any]) -> Calibration:
        """A copy in which one part ('serial', 'intrinsics', 'extrinsics' of a camera, or 'workspace', camera '') is new.

        New intrinsics take the extrinsics away, which were measured with the old ones.
        """
        parts = copy.deepcopy(self.parts)
        if part == 'workspace':
            parts['workspace'] = values
        else:
            of = parts.setdefault('cameras', {}).setdefault(camera, {})
            of[part] = values
            if part == 'intrinsics':
                of.pop('extrinsics', None)
        return parse(parts)


def load(path: Path | str) -> Calibration:
    """Reads a file; CalibrationError, one line that names it and what is wrong in it."""
    if not Path(path).exists():
        raise CalibrationError(f'{path}: there is no calibration yet: ./chef calibrate --help')
    try:
        return parse(yaml_file.load(path))
    except CalibrationError as e:
        raise CalibrationError(f'{path}: {e}') from None
    except ValueError as e:
        raise CalibrationError(e) from None


def load_or_new(path: Path | str) -> Calibration:
    """As `load`, but an empty one where there is no file."""
    return load(path) if Path(path).exists() else Calibration()


def save(path: Path | str, calibration: Calibration) -> None:
    """Writes the whole file, or leaves the old one as it is; CalibrationError if it cannot be written."""
    path = Path(path)
    parse(calibration.parts)
    text = ('# Made by ./chef calibrate; see docs/tracking.md. Lengths in m, poses x y z qw qx qy qz in the robot\'s base.\n'
            + yaml.safe_dump(calibration.parts, sort_keys=False, default_flow_style=None, width=120))
    temporary = ''
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix='.tmp')
        with os.fdopen(handle, 'w') as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as e:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise CalibrationError(f'{path}: cannot be written: {e.strerror}') from None


def parse(values: Any) -> Calibration:
    """Checks what a file holds; CalibrationError."""
    top = _mapping(values, 'the file')
    if top.get('chef_calibration') != FORMAT or isinstance(top['chef_calibration'], bool):
        raise CalibrationError(f'chef_calibration is {short(top.get("chef_calibration"))}, this version reads {FORMAT}')
    _known(top, '', ('chef_calibration', 'cameras', 'workspace'))
    out = Calibration(parts=dict(top))
    for name, camera in _mapping(top.get('cameras', {}), 'cameras').items():
        where = f'cameras.{short(name)}'
        if not isinstance(name, str):
            raise CalibrationError(f'{where}: the name of a camera must be text')
        _known(_mapping(camera, where), where, ('serial', 'intrinsics', 'extrinsics'))
        out.serials[name] = _text(camera.get('serial', ''), f'{where}.serial')
        if 'intrinsics' in camera:
            out.intrinsics[name] = _intrinsics(camera['intrinsics'], f'{where}.intrinsics')
        if 'extrinsics' in camera:
            part = _mapping(camera['extrinsics'], f'{where}.extrinsics')
            out.poses[name] = _pose(part.get('pose'), f'{where}.extrinsics.pose')
    if 'workspace' in top:
        part = _mapping(top['workspace'], 'workspace')
        centre, size = (_numbers(part.get(k), 3, f'workspace.{k}') for k in ('centre_m', 'size_m'))
        if min(size) <= 0:
            raise CalibrationError(f'workspace.size_m must be above 0, not {short(list(size))}')
        out.workspace = Workspace(centre, size)
    return out


def _known(values: Mapping, where: str, keys: tuple[str, ...]) -> None:
    for key in values:
        if key not in keys:
            raise CalibrationError(f'unknown key {f"{where}." if where else ""}{short(key)}, known are {", ".join(keys)}')


def _mapping(values: Any, where: str) -> Mapping:
    if not isinstance(values, Mapping):
        raise CalibrationError(f'{where} must be a mapping, not {short(values)}')
    return values


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise CalibrationError(f'{where} must be text (in quotes), not {short(value)}')
    return value


def _numbers(value: Any, count: int, where: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count or not all(map(is_number, value)):
        raise CalibrationError(f'{where} must hold {count} numbers, not {short(value)}')
    return tuple(float(v) for v in value)


def _pose(value: Any, where: str) -> np.ndarray:
    pose = np.array(_numbers(value, 7, where))
    length = math.hypot(*pose[3:])
    if not abs(length - 1) <= 1e-3:
        raise CalibrationError(f'{where}: its quaternion has length {length:.4g}, not 1')
    pose[3:] /= length
    return pose


def _intrinsics(value: Any, where: str) -> Intrinsics:
    part = _mapping(value, where)
    width, height = part.get('width'), part.get('height')
    for key, v in (('width', width), ('height', height)):
        if not isinstance(v, int) or isinstance(v, bool) or not 16 <= v <= 100_000:
            raise CalibrationError(f'{where}.{key} must be a whole number of pixels, not {short(v)}')
    fx, fy, cx, cy = _numbers(part.get('matrix'), 4, f'{where}.matrix')
    if not (0.1 * width < fx < 100 * width and 0.1 * width < fy < 100 * width and -width < cx < 2 * width
            and -height < cy < 2 * height):
        raise CalibrationError(f'{where}.matrix: {short([fx, fy, cx, cy])} (fx fy cx cy) is none of a picture of {width} x '
                               f'{height}')
    distortion = _numbers(part.get('distortion'), 5, f'{where}.distortion')
    return Intrinsics(width, height, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), np.array(distortion))

# SPDX-License-Identifier: Apache-2.0
"""What a calibration tells of itself: pictures of the residuals, and one HTML page of all that the file holds."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np

from chef_control.calibration.board import CalibrationError
from chef_control.calibration.file import Calibration

_WIDTH_IN = 9.0
_STYLE = 'body{font:15px sans-serif;max-width:60em;margin:2em auto}td,th{padding:.2em .8em;text-align:left}img{max-width:100%}'


def folder_of(path: Path) -> Path:
    """Where the pictures beside a calibration file are."""
    return path.with_name(f'{path.stem}_report')


def residual_picture(title: str, size: tuple[int, int], pixels: np.ndarray, residuals: np.ndarray) -> bytes:
    """A PNG: where in the picture the corners were, with their residuals as arrows, and how the residuals spread."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, 4.2), layout='constrained')
    left, right = figure.subplots(1, 2, width_ratios=(size[0] / size[1] + 0.2, 1))
    length = np.linalg.norm(residuals, axis=1)
    scale = 0.03 * size[0] / max(float(np.percentile(length, 95)), 1e-6)
    left.quiver(*pixels.T, *(residuals * scale).T, length, angles='xy', scale_units='xy', scale=1, width=0.002, cmap='viridis')
    left.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect='equal', title=f'{title}: residuals x {scale:.0f}')
    right.plot(*residuals.T, '.', ms=2, alpha=0.5)
    most = max(float(np.percentile(length, 99)), 1e-6)
    right.set(xlim=(-most, most), ylim=(most, -most), aspect='equal', xlabel='pixels', title=f'{len(residuals)} corners, rms '
              f'{np.sqrt((length**2).mean()):.3f} px')
    return _png(figure)


def layout_picture(calibration: Calibration) -> bytes:
    """A PNG of the cell from above and from the side: cameras with what they see, workspace, robot's base."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, 4.5), layout='constrained')
    for axes, (a, b), title in zip(figure.subplots(1, 2), ((0, 1), (0, 2)), ('from above', 'from the side')):
        axes.plot(0, 0, 'ks', ms=8)
        axes.annotate('base', (0, 0), xytext=(4, 4), textcoords='offset points')
        for name in sorted(calibration.poses):
            camera = calibration.camera(name)
            k, place = camera.intrinsics, camera.pose[:3]
            far = []
            for u, v in ((0, 0), (k.width, 0), (k.width, k.height), (0, k.height)):
                ray = camera.rotation.T @ np.append(k.ideal(np.array([[u, v]]))[0] / k.focal_px, 1.0)
                far.append(place + 0.25 * ray)
                axes.plot(*np.stack([place, far[-1]])[:, [a, b]].T, color='C0', lw=0.7)
            axes.plot(*np.array([*far, far[0]])[:, [a, b]].T, color='C0', lw=0.7)
            axes.plot(place[a], place[b], 'o', color='C0')
            axes.annotate(name, (place[a], place[b]), xytext=(4, 4), textcoords='offset points', fontsize=8)
        if calibration.workspace is not None:
            c, s = np.array(calibration.workspace.centre_m), np.array(calibration.workspace.size_m) / 2
            x, y = np.array([-1, 1, 1, -1, -1]), np.array([-1, -1, 1, 1, -1])
            axes.plot(c[a] + x * s[a], c[b] + y * s[b], color='C3', label='workspace')
        axes.set(aspect='equal', xlabel=f'{"xyz"[a]}, m', ylabel=f'{"xyz"[b]}, m', title=title)
        axes.grid(alpha=0.3)
    return _png(figure)


def _png(figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format='png', dpi=110)
    return out.getvalue()


def page(path: Path, calibration: Calibration) -> str:
    """The HTML page: a table of each part, with its pictures."""
    parts = []
    for name, camera in calibration.parts.get('cameras', {}).items():
        parts.append(f'<h2>{escape(name)}</h2><p>serial: {escape(str(camera.get("serial") or "not noted"))}</p>')
        for part in ('intrinsics', 'extrinsics'):
            if part not in camera:
                parts.append(f'<p><b>{part} are missing</b>: ./chef calibrate {part}</p>')
                continue
            parts.append(f'<h3>{part}</h3>{_table(camera[part])}')
            picture = folder_of(path) / f'{name}_{part}.png'
            if picture.is_file():
                parts.append(_image(picture.read_bytes()))
    workspace = calibration.parts.get('workspace')
    parts.append('<h2>workspace</h2>' + (_table(workspace) if workspace else '<p>not measured: ./chef calibrate workspace</p>'))
    return (f'<!doctype html><meta charset="utf-8"><title>calibration</title><style>{_STYLE}</style><h1>{escape(path.name)}</h1>'
            + _image(layout_picture(calibration)) + ''.join(parts))


def _table(values: Mapping) -> str:
    rows = ''.join(f'<tr><th>{escape(str(k))}</th><td>{escape(_text(v))}</td></tr>' for k, v in values.items())
    return f'<table>{rows}</table>'


def _text(value) -> str:
    if isinstance(value, float):
        return f'{value:.6g}'
    if isinstance(value, list):
        return ', '.join(map(_text, value))
    if isinstance(value, Mapping):
        return ', '.join(f'{k}: {_text(v)}' for k, v in value.items())
    return str(value)


def _image(png: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def write(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all; CalibrationError."""
    temporary = path.with_name(f'.{path.name}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as e:
        raise CalibrationError(f'{path}: cannot be written: {e.strerror}') from None
    finally:
        if temporary.exists():
            temporary.unlink()

# SPDX-License-Identifier: Apache-2.0
"""What the tracker makes of pictures, as a page to choose its colours by: spots, and where all pixels lie in hue."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from chef_control.tracking.outlines import hsv, masks, shrink
from chef_control.tracking.settings import TrackerSettings
from chef_task import settings, yaml_file
from chef_task.errors import OneLineError
from chef_task.spaces import OBJECTS

_DRAWN = {'red': (255, 80, 80), 'green': (80, 255, 80), 'blue': (90, 140, 255)}
_MARGIN_DEG, _MARGIN = 8.0, 0.12


class TuningError(OneLineError):
    """What was asked for cannot be shown."""


def read_settings(path: Path | None) -> TrackerSettings:
    """From a file with them, or from a cell's config; the defaults without one. TuningError."""
    if path is None:
        return TrackerSettings()
    try:
        values = yaml_file.load(path)
        if isinstance(values, dict) and 'devices' in values:
            tracker = (values['devices'] or {}).get('tracker') or {}
            values = tracker.get('tracking') if isinstance(tracker, dict) else None
        return settings.build(TrackerSettings, values)
    except (ValueError, AttributeError) as e:
        text = str(e)
        raise TuningError(text if text.startswith(f'{path}') else f'{path}: {text}') from None


def suggest(sample: str, image: np.ndarray) -> str:
    """A line of YAML with thresholds that hold all but the outmost pixels of a rectangle 'colour=x,y,w,h' of a picture."""
    colour, _, rectangle = sample.partition('=')
    try:
        x, y, w, h = (int(v) for v in rectangle.split(','))
    except ValueError:
        x = y = w = h = -1
    height, width = image.shape[:2]
    if colour not in OBJECTS or x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
        raise TuningError(f'--sample {sample!r} is none of COLOUR=X,Y,W,H with {", ".join(OBJECTS)} within {width} x {height}')
    pixels = hsv(image[y:y + h, x:x + w]).reshape(-1, 3).astype(float)
    hue = np.radians(pixels[:, 0] * (360 / 256))
    mean = np.degrees(np.arctan2(np.sin(hue).mean(), np.cos(hue).mean()))
    apart = (np.degrees(hue) - mean + 180) % 360 - 180
    low, high = np.percentile(apart, [2, 98]) + np.array([-_MARGIN_DEG, _MARGIN_DEG]) + mean
    saturation, value = np.maximum(np.percentile(pixels[:, 1:], 2, axis=0) / 255 - _MARGIN, 0.05)
    return (f'{colour}: {{hue_deg: [{low % 360:.0f}, {high % 360:.0f}], saturation_least: {saturation:.2f}, '
            f'value_least: {value:.2f}}}')


def overlay(image: np.ndarray, chosen: TrackerSettings) -> np.ndarray:
    """The picture, grey but for what counts as a colour, with the outlines of the spots; RGB uint8."""
    small = shrink(image, chosen.width_px)
    out = np.repeat((cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) // 2)[..., None], 3, axis=2)
    for name, found in zip(OBJECTS, masks(small, chosen)):
        out[found > 0] = small[found > 0]
        contours, _ = cv2.findContours(found, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        large = [c for c in contours if cv2.contourArea(c) >= chosen.area_share * small[..., 0].size]
        cv2.drawContours(out, large, -1, _DRAWN[name], 1)
    return out


def page(pictures: Sequence[tuple[Path, np.ndarray]], chosen: TrackerSettings) -> str:
    """An HTML page; each picture with its overlay and the hues in it."""
    parts = ['<!doctype html><meta charset="utf-8"><title>tracker</title><style>body{font:15px sans-serif;margin:2em}'
             'img{max-width:32%}</style><h1>What the tracker sees</h1><pre>',
             escape('\n'.join(f'{k}: {v}' for k, v in settings.to_dict(chosen).items())), '</pre>']
    for path, image in pictures:
        small = shrink(image, chosen.width_px)
        counts = ', '.join(f'{n} {int((m > 0).sum())} px' for n, m in zip(OBJECTS, masks(small, chosen)))
        parts.append(f'<h2>{escape(path.name)}</h2><p>{counts}</p>' + ''.join(
            f'<img alt="" src="data:image/png;base64,{base64.b64encode(p).decode()}">'
            for p in (_png(small), _png(overlay(image, chosen)), _hues(small, chosen))))
    return ''.join(parts)


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode('.png', image[..., ::-1])[1].tobytes()


def _hues(image: np.ndarray, chosen: TrackerSettings) -> bytes:
    """A PNG: hue against saturation of all pixels, with the ranges of the colours."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    pixels = hsv(image).reshape(-1, 3)
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    bright = pixels[pixels[:, 2] > 255 * min(getattr(chosen, n).value_least for n in OBJECTS)]
    counts, _, _ = np.histogram2d(bright[:, 0] * (360 / 256), bright[:, 1] / 255, bins=(90, 50), range=((0, 360), (0, 1)))
    axes.imshow(np.log1p(counts.T), origin='lower', extent=(0, 360, 0, 1), aspect='auto', cmap='Greys')
    for name in OBJECTS:
        colour = getattr(chosen, name)
        low, high = colour.hue_deg
        for start, end in ((low, high),) if low <= high else ((low, 360), (0, high)):
            axes.add_patch(Rectangle((start, colour.saturation_least), end - start, 1 - colour.saturation_least, fill=False,
                                     color=name, lw=2))
    axes.set(xlabel='hue, degrees', ylabel='saturation')
    out = io.BytesIO()
    figure.savefig(out, format='png', dpi=100)
    return out.getvalue()

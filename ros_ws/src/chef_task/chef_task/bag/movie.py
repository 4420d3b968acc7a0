# SPDX-License-Identifier: Apache-2.0
"""An episode as a movie that browsers play: its cameras side by side, rewards, wrist force and the acting task.

One picture a Step, with the very images that the Step names, shown at the Steps' own times.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from chef_task.bag import plots
from chef_task.bag.errors import BagError
from chef_task.bag.reader import Episode
from chef_task.records import StepRecord
from chef_task.spaces import CAMERAS, CONTROL_HZ

_CAMERA_PX = 384                # a camera's side
_STRIP_PX = 300                 # height of the plots
_HEAD_PX = 36                   # height of the line of text above
_HOLD_STEPS = 20                # how long the last picture stands
_MS = Fraction(1, 1000)         # unit of the movie's time
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def save_movie(episode: Episode, output: Path) -> int:
    """Writes the movie as MP4 (H.264), under another name until it is whole; returns the number of Steps.

    Raises:
      BagError: damaged bag, one without cameras, PyAV is missing, or the file cannot be written.
    """
    try:
        import av
    except ImportError as e:
        raise BagError(f'a movie needs PyAV, which is not installed ({e}): pip install av') from None
    cameras = [c for c in CAMERAS if episode.has(c)]
    if not cameras:
        raise BagError(f'{episode.path}: has no cameras to make a movie of; `./chef bags show` draws it')
    if not episode.steps():
        raise BagError(f'{episode.path}: has no Steps')
    frames = _Frames(episode, cameras)
    temporary = output.with_name(f'.{output.name}.partial')
    try:
        with av.open(str(temporary), 'w', format='mp4', options={'movflags': '+faststart'}) as container:
            stream = container.add_stream('libx264', rate=round(CONTROL_HZ),
                                          options={'crf': '23', 'preset': 'veryfast'})
            stream.width, stream.height, stream.pix_fmt = frames.width, frames.height, 'yuv420p'
            stream.codec_context.time_base = _MS
            ms = -1
            for at_ms, picture in frames:
                ms = max(at_ms, ms + 1)         # stamps of a bag from elsewhere may stand still
                frame = av.VideoFrame.from_ndarray(picture, 'rgb24')
                frame.pts, frame.time_base = ms, _MS
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        os.replace(temporary, output)
    except (OSError, av.FFmpegError) as e:
        raise BagError(f'{output}: cannot be written: {e.strerror or e}') from e
    finally:
        temporary.unlink(missing_ok=True)
    return len(episode.steps())


class _Frames:
    """The movie's pictures, uint8 [height, width, 3] rgb with even sides, and when each is shown, ms."""

    def __init__(self, episode: Episode, cameras: list[str]):
        self._episode, self._cameras = episode, cameras
        self._origin = episode.steps()[0].stamp
        self.width = _CAMERA_PX * len(CAMERAS)
        self._strip, self._column = self._plots()
        self.height = _HEAD_PX + _CAMERA_PX + _STRIP_PX
        if episode.has('wrench'):
            wrench = episode.series('wrench')
            self._force_stamps, self._force_n = wrench.stamps, np.linalg.norm(wrench.values['force'], axis=-1)
        else:
            self._force_stamps, self._force_n = np.zeros(0, np.int64), np.zeros(0)

    def __iter__(self):
        for step, samples in self._episode.iterate(tuple(self._cameras)):
            at_ms = round((step.stamp - self._origin) / 1e6)
            picture = self._picture(step, [samples[c]['image'] for c in self._cameras])
            yield at_ms, picture
        for i in range(_HOLD_STEPS):
            yield at_ms + round(1e3 / CONTROL_HZ) * (i + 1), picture

    def _plots(self):
        """The plots below the cameras, drawn once, and what tells the column of a time in s."""
        steps, record = self._episode.steps(), self._episode.record
        end_s = max((steps[-1].stamp - self._origin) / 1e9, 1e-3)
        dpi = 80
        figure = Figure(figsize=(self.width / dpi, _STRIP_PX / dpi), dpi=dpi, layout='constrained')
        canvas = FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        plots.draw_rewards(left, self._episode, steps, self._origin, end_s)
        left.set_yticklabels(plots.plain(t) for t in record.tasks)
        left.tick_params(axis='x', labelbottom=True)
        left.set_xlabel('s since the first tick', fontsize=9)
        plots.draw_force(right, self._episode, self._origin, end_s)
        canvas.draw()
        strip = np.asarray(canvas.buffer_rgba())[:_STRIP_PX, :self.width, :3].copy()

        def columns(seconds: float) -> list[tuple[int, int, int]]:
            out = []
            for ax in (left, right):
                box = ax.get_window_extent()
                x = ax.transData.transform((min(max(seconds, 0.0), end_s), 0))[0]
                out.append((round(x), round(_STRIP_PX - box.y1), round(_STRIP_PX - box.y0)))
            return out
        return strip, columns

    def _picture(self, step: StepRecord, images: list[np.ndarray]) -> np.ndarray:
        seconds = (step.stamp - self._origin) / 1e9
        picture = np.full((self.height, self.width, 3), 24, np.uint8)
        for i, (camera, image) in enumerate(zip(self._cameras, images)):
            big = cv2.resize(image, (_CAMERA_PX, _CAMERA_PX), interpolation=cv2.INTER_CUBIC)
            _write(big, camera.replace('_', ' '), (8, _CAMERA_PX - 10), 0.45)
            picture[_HEAD_PX:_HEAD_PX + _CAMERA_PX, i * _CAMERA_PX:(i + 1) * _CAMERA_PX] = big
        picture[-_STRIP_PX:] = self._strip
        for x, top, bottom in self._column(seconds):
            cv2.line(picture[-_STRIP_PX:], (x, top), (x, bottom), (179, 38, 30), 1, cv2.LINE_AA)
        _write(picture, self._text(step, seconds), (10, _HEAD_PX - 12), 0.55)
        return picture

    def _text(self, step: StepRecord, seconds: float) -> str:
        r = self._episode.record
        at = int(np.searchsorted(self._force_stamps, step.stamp, 'right')) - 1
        parts = [f'{seconds:6.2f} s', f'step {step.index:3d}']
        if at >= 0:
            parts.append(f'{self._force_n[at]:4.1f} N')
        if step.last:
            parts += [f'ended by {r.termination_reason}', 'success' if r.success else 'no success']
        elif step.task < min(len(r.tasks), len(step.rewards)):
            parts.append(f'task {r.tasks[step.task]}: reward {step.rewards[step.task]:.2f}')
        return '   '.join([*parts, f'triplet {r.triplet}', f'policy {r.policy_version or "?"}'])


def _write(picture: np.ndarray, text: str, place: tuple[int, int], scale: float) -> None:
    """Light text with a shadow; OpenCV's fonts have no more than ASCII everywhere."""
    text = ''.join(c if ' ' <= c <= '~' else '?' for c in text)[:140]
    for colour, offset in (((0, 0, 0), 1), ((240, 240, 240), 0)):
        cv2.putText(picture, text, (place[0] + offset, place[1] + offset), _FONT, scale, colour, 1, cv2.LINE_AA)

# SPDX-License-Identifier: Apache-2.0
"""The filmstrips of the report: of a few episodes, the only bags that it opens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from chef_task.bag.either import FileEpisode, open_either
from chef_task.bag.reader import Episode
from chef_task.bag.report import Report, Row
from chef_task.errors import OneLineError
from chef_task.spaces import CAMERAS

FRAMES, FRAME_PX = 10, 104


def films(report: Report, count: int) -> Iterator[tuple[Row, bytes]]:
    """(episode, JPEG) of at most `count`: the newest success, the newest early end, then the newest."""
    newest = report.rows[::-1]
    chosen = [next((r for r in newest if r.success), None), next((r for r in newest if r.early), None), *newest[:count]]
    unique = {r.path: r for r in chosen if r is not None}
    for row in list(unique.values())[:count]:
        try:
            shown = film(open_either(row.path))
        except (OneLineError, ValueError):      # `./chef bags check` tells of it; here it is only a picture
            continue
        if shown is not None:
            yield row, shown


def film(episode: Episode | FileEpisode) -> bytes | None:
    """JPEG of the first camera at equal distances of time; None without cameras."""
    camera = next((c for c in CAMERAS if episode.has(c)), None)
    steps = [s for s in episode.steps() if camera in s.stamps]
    if not steps:
        return None
    return strip([episode.samples(steps[round(i * (len(steps) - 1) / (FRAMES - 1))], (camera,))[camera]['image']
                  for i in range(FRAMES)])


def strip(images: Sequence[np.ndarray]) -> bytes | None:
    """JPEG of pictures of one size, uint8 RGB [H, W, 3], side by side."""
    size = round(FRAME_PX * images[0].shape[1] / images[0].shape[0]), FRAME_PX
    row = np.concatenate([cv2.resize(i, size, interpolation=cv2.INTER_AREA) for i in images], 1)
    ok, data = cv2.imencode('.jpg', cv2.cvtColor(row, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data.tobytes() if ok else None

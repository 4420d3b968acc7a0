# SPDX-License-Identifier: Apache-2.0
"""Pictures of a running simulated world, as one of its cameras sees it, for fake cameras."""

from __future__ import annotations

import threading
import time

import numpy as np

from chef_sim.client import DeviceClient

NOISE = 2       # of 255, at most, of every pixel


class WorldPictures:
    """Renders the newest state of a world. Use `next` from one thread, which owns the graphics.

    Args:
      socket: of the world.
      camera: one of `chef_task.spaces.CAMERAS`.
      width, height: pixels.
    """

    def __init__(self, socket: str, camera: str, width: int = 128, height: int = 128):
        self._camera, self._size = camera, (width, height)
        self._news, self._sample = threading.Condition(), None
        self._renderer, self._random = None, np.random.default_rng(0)
        self._client = DeviceClient(socket, f'fake {camera}', ('render',), on_batch=self._on_batch, on_lost=self._on_lost)

    def _on_batch(self, samples: list[dict]) -> None:
        with self._news:
            self._sample = samples[-1]
            self._news.notify_all()

    def _on_lost(self, reason: str) -> None:
        with self._news:
            self._news.notify_all()

    @property
    def lost(self) -> str:
        return self._client.lost

    def next(self, timeout_s: float) -> np.ndarray | None:
        """The picture [height, width, 3] uint8 RGB of a state that was not shown yet; None if none came in time."""
        end = time.monotonic() + timeout_s
        with self._news:
            if not self._news.wait_for(lambda: self._sample is not None or self.lost, end - time.monotonic()):
                return None
            sample, self._sample = self._sample, None
        if sample is None:
            return None
        if self._renderer is None:
            from chef_sim.render import Renderer

            self._renderer = Renderer(sample.get('triplet', 1), *self._size)
        image = self._renderer.render(self._camera, sample)
        # a sensor's noise: no real picture equals the one before, and one that does is taken for frozen
        noise = self._random.integers(-NOISE, NOISE + 1, image.shape, np.int16)
        return np.clip(image + noise, 0, 255).astype(np.uint8)

    def close(self) -> None:
        self._client.close()
        if self._renderer is not None:
            self._renderer.close()

# SPDX-License-Identifier: Apache-2.0
"""Pictures of a running simulated world, as one of its cameras sees it, for fake cameras."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing

import numpy as np

from chef_sim.client import DeviceClient

NOISE = 2       # of 255, at most, of every pixel
COVERED_S = 2.0     # how long a fake's process shows nothing but darkness when it gets SIGUSR1
SPOILT_S = 1.0      # ... and what is no picture when it gets SIGUSR2
_DARK = 6           # of 255


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


def play(parser: argparse.ArgumentParser, argv: list[str] | None, what: str,
         screen: Callable[[argparse.Namespace], AbstractContextManager[Callable[[np.ndarray | None], None]]]) -> None:
    """The process of a fake camera: shows what a world's camera sees until it is interrupted or the world ends.

    Args:
      parser: with the fake's own arguments; those of the world are added.
      what: for the line that tells it is there.
      screen: gives, for as long as it is entered, the function that shows a picture, or what is none for None; OSError: the
        process ends with a line.
    """
    parser.add_argument('--world', required=True, help='socket of the simulated world')
    parser.add_argument('--camera', required=True, help='which of its cameras')
    args, stop = parser.parse_args(argv), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    until = {'covered': 0.0, 'spoilt': 0.0}     # monotonic, s
    for number, what_for, seconds in ((signal.SIGUSR1, 'covered', COVERED_S), (signal.SIGUSR2, 'spoilt', SPOILT_S)):
        signal.signal(number, lambda *_, w=what_for, s=seconds: until.update({w: time.monotonic() + s}))   # for tests
    with ExitStack() as stack:
        try:
            pictures = stack.enter_context(closing(WorldPictures(args.world, args.camera)))
            show = stack.enter_context(screen(args))
        except OSError as e:
            parser.exit(1, f'fake {args.camera}: {e}\n')
        print(f'{what} shows {args.camera}', flush=True)
        while not stop.is_set() and not pictures.lost:
            image, now = pictures.next(0.5), time.monotonic()
            if image is not None and now < until['covered']:
                image = _DARK + image % (NOISE + 1)
            if image is not None:
                show(None if now < until['spoilt'] else image)

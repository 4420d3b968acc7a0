# SPDX-License-Identifier: Apache-2.0
"""Images in replay: differences between lines, compressed by zstandard; or as they are.

Without loss either way, and always the same bytes. Smaller than PNG of the same pictures and read several times as
fast (benchmarks/README.md).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import zstandard

from chef_task.spaces import IMAGE_SHAPE

KINDS = ('compressed', 'raw')
BYTES = int(np.prod(IMAGE_SHAPE))
_LINE = IMAGE_SHAPE[1] * IMAGE_SHAPE[2]     # bytes
_CHUNK = 64         # images a thread does at a time: their lines are summed together
_LEVEL = 1
_local = threading.local()      # a decompressor is for one thread


def encode(image: np.ndarray, kind: str) -> bytes:
    """uint8 [H, W, 3] to bytes."""
    if kind == 'raw':
        return image.tobytes()
    lines = np.array(image, order='C').reshape(-1, _LINE)
    lines[1:] = lines[1:] - lines[:-1]      # modulo 256
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(lines)


def decode(data: Sequence, out: np.ndarray, kind: str) -> None:
    """Bytes of n images to uint8 [n, H, W, 3], C-contiguous; ValueError, which begins with the image's number, for others."""
    flat = out.reshape(len(data), BYTES)
    if kind == 'raw':
        for i, image in enumerate(data):
            if len(image) != BYTES:
                raise ValueError(f'{i}: it is not the size of an image')
            flat[i] = np.frombuffer(image, np.uint8)
        return
    if not hasattr(_local, 'decompressor'):
        _local.decompressor = zstandard.ZstdDecompressor()
    for i, image in enumerate(data):
        try:
            # a damaged head may promise gigabytes
            if zstandard.frame_content_size(image) != BYTES:
                raise ValueError(f'{i}: it is not the size of an image')
            flat[i] = np.frombuffer(_local.decompressor.decompress(image, allow_extra_data=False), np.uint8)
        except zstandard.ZstdError as e:
            raise ValueError(f'{i}: {e}') from None
    lines = out.reshape(len(data), -1, _LINE)
    for y in range(1, lines.shape[1]):      # of all images at once; numpy's cumsum goes pixel by pixel
        np.add(lines[:, y], lines[:, y - 1], out=lines[:, y])


def default_threads() -> int:
    """As many as there are processors to spare, at most 4: more wait for the interpreter's lock (see `readers`)."""
    return max(1, min(len(os.sched_getaffinity(0)) - 1, 4))


class ImageReader:
    """Reads many images at once, in threads.

    Args:
      kind: one of KINDS.
      threads: 0 for `default_threads`.
    """

    def __init__(self, kind: str, threads: int = 0):
        self.kind, self.threads = kind, threads or default_threads()
        self._pool = ThreadPoolExecutor(self.threads, 'images') if self.threads > 1 else None

    def read(self, blob: np.ndarray, starts: np.ndarray, sizes: np.ndarray, out: np.ndarray) -> None:
        """Those at starts [n] of sizes [n] in a file's bytes, into out [n, H, W, 3].

        Raises:
          ValueError: one is damaged.
        """
        def read(first: int) -> None:
            part = slice(first, first + _CHUNK)
            places = list(zip(starts[part].tolist(), sizes[part].tolist()))
            if any(start + size > len(blob) for start, size in places):
                raise ValueError('it lies behind the end of the file')
            decode([blob[start:start + size] for start, size in places], out[part], self.kind)

        for _ in (map if self._pool is None else self._pool.map)(read, range(0, len(starts), _CHUNK)):
            pass

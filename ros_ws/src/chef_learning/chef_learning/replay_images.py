# SPDX-License-Identifier: Apache-2.0
"""Images in replay: differences between lines, channel by channel, compressed by zstandard; or as they are.

Without loss either way, and always the same bytes. Smaller than PNG of the same pictures and read three to five
times as fast (benchmarks/README.md): a learner on a GPU reads 40,000 of them a second.
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
_CHUNK = 16         # images a thread does at a time
_LEVEL = 1
_local = threading.local()      # a decompressor and its results are for one thread


def encode(image: np.ndarray, kind: str) -> bytes:
    """uint8 [H, W, 3] to bytes."""
    if kind == 'raw':
        return image.tobytes()
    planes = np.array(image.transpose(2, 0, 1), order='C')
    planes[:, 1:] -= image.transpose(2, 0, 1)[:, :-1]       # modulo 256
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(planes)


def decode(data, out: np.ndarray) -> None:
    """Bytes to uint8 [H, W, 3]; ValueError for those that are not an image of ours."""
    decode_all([data], out[None])


def decode_all(pieces: Sequence, out: np.ndarray) -> None:
    """The same of several, out [n, H, W, 3], n at most 16; the text of an error begins with the number of the image.

    Together, since summing the lines of one image is so short that NumPy keeps the interpreter's lock.
    """
    height, width, channels = IMAGE_SHAPE
    if not hasattr(_local, 'decompressor'):
        _local.decompressor = zstandard.ZstdDecompressor()
        _local.planes = np.empty((_CHUNK, channels * height * width), np.uint8)
    packed = []
    for i, data in enumerate(pieces):
        if len(data) == BYTES:
            out[i] = np.frombuffer(data, np.uint8).reshape(IMAGE_SHAPE)
            continue
        try:
            # a damaged head may promise gigabytes
            if zstandard.frame_content_size(data) != BYTES:
                raise ValueError(f'{i}: it is not the size of an image')
            _local.planes[len(packed)] = np.frombuffer(
                _local.decompressor.decompress(data, allow_extra_data=False), np.uint8)
        except zstandard.ZstdError as e:
            raise ValueError(f'{i}: {e}') from None
        packed.append(i)
    planes = _local.planes[:len(packed)].reshape(-1, channels, height, width)
    if len(packed) == len(pieces):
        np.cumsum(planes, axis=2, dtype=np.uint8, out=out.transpose(0, 3, 1, 2))
    else:
        for plane, i in zip(planes, packed):
            np.cumsum(plane, axis=1, dtype=np.uint8, out=out[i].transpose(2, 0, 1))


def default_threads() -> int:
    """As many as there are processors to spare, at most 16."""
    return max(1, min(len(os.sched_getaffinity(0)) - 1, 16))


class ImageReader:
    """Reads many images at once, in threads.

    Args:
      threads: 0 for `default_threads`.
    """

    def __init__(self, threads: int = 0):
        self.threads = threads or default_threads()
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
            decode_all([blob[start:start + size] for start, size in places], out[part])

        for _ in (map if self._pool is None else self._pool.map)(read, range(0, len(starts), _CHUNK)):
            pass

# SPDX-License-Identifier: Apache-2.0
"""Images in replay: differences between lines, channel by channel, compressed by zstandard; or as they are.

Without loss either way, and always the same bytes. Smaller than PNG of the same pictures and read three to five
times as fast (benchmarks/README.md): a learner on a GPU reads 40,000 of them a second.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import zstandard

from chef_task.spaces import IMAGE_SHAPE

KINDS = ('compressed', 'raw')
BYTES = int(np.prod(IMAGE_SHAPE))
_CHUNK = 16         # images a thread does at a time
_LEVEL = 1
_local = threading.local()      # a decompressor is for one thread


def encode(image: np.ndarray, kind: str) -> bytes:
    """uint8 [H, W, 3] to bytes."""
    if kind == 'raw':
        return image.tobytes()
    planes = np.array(image.transpose(2, 0, 1), order='C')
    planes[:, 1:] -= image.transpose(2, 0, 1)[:, :-1]       # modulo 256
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(planes)


def decode(data, out: np.ndarray) -> None:
    """Bytes to uint8 [H, W, 3]; ValueError for those that are not an image of ours. Without the interpreter's lock."""
    if len(data) == BYTES:
        out[:] = np.frombuffer(data, np.uint8).reshape(IMAGE_SHAPE)
        return
    try:
        # a damaged head may promise gigabytes
        if zstandard.frame_content_size(data) != BYTES:
            raise ValueError('it is not the size of an image')
        if not hasattr(_local, 'decompressor'):
            _local.decompressor = zstandard.ZstdDecompressor()
        planes = np.frombuffer(_local.decompressor.decompress(data, allow_extra_data=False), np.uint8)
    except zstandard.ZstdError as e:
        raise ValueError(str(e)) from None
    height, width, channels = IMAGE_SHAPE
    np.cumsum(planes.reshape(channels, height, width), axis=1, dtype=np.uint8, out=out.transpose(2, 0, 1))


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
          ValueError: one is damaged; the text begins with its number in `starts`.
        """
        parts = [slice(i, i + _CHUNK) for i in range(0, len(starts), _CHUNK)]
        one = lambda part: _read(blob, starts, sizes, out, part)      # noqa: E731
        for _ in map(one, parts) if self._pool is None else self._pool.map(one, parts):
            pass


def _read(blob: np.ndarray, starts: np.ndarray, sizes: np.ndarray, out: np.ndarray, part: slice) -> None:
    for i, start, size in zip(range(part.start, part.stop), starts[part].tolist(), sizes[part].tolist()):
        try:
            if start + size > len(blob):
                raise ValueError('it lies behind the end of the file')
            decode(blob[start:start + size], out[i])
        except ValueError as e:
            raise ValueError(f'{i}: {e}') from None

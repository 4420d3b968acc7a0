# SPDX-License-Identifier: Apache-2.0
"""Image codecs of bags: `raw`, `png` (lossless) and `jpeg:QUALITY` (nearly lossless), without ROS.

An encoded image is a sensor_msgs/CompressedImage on `<image topic>/compressed` with the header of the image
it stands for, which is the convention of image_transport: rviz2 and Foxglove show it, and a Step's stamps
find it. The settings behind the names were measured: benchmarks/codec.py.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chef_task.bag.definitions import typestore
from chef_task.bag.summary import INFO

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
SUFFIX = '/compressed'
DEFAULT = 'png'
JPEG_QUALITY = 95       # of 'jpeg' without a number
KEY = 'image_codec'     # in an episode's metadata; not there where images are as the cameras sent them
MAX_PIXELS = 1 << 25    # no camera has more: a damaged header must not ask for GBs of memory


def compressed_topic(topic: str) -> str:
    """Where the encoded images of an image topic are."""
    return topic + SUFFIX


@dataclass(frozen=True)
class Codec:
    """How images are stored.

    name: 'raw', 'png' or 'jpeg:1' to 'jpeg:100'.
    kind: 'raw', 'png' or 'jpeg'. quality: of jpeg.
    """

    name: str
    kind: str
    quality: int = 0

    @classmethod
    def parse(cls, text: str) -> Codec:
        """The codec of that name; 'jpeg' is 'jpeg:95'. ValueError for one that does not exist."""
        if text in ('raw', 'png'):
            return cls(text, text)
        m = re.fullmatch(r'jpeg(?::([1-9][0-9]?|100))?', text)
        if not m:
            raise ValueError(f'image codec {text!r} does not exist, choose raw, png or jpeg:QUALITY, 1 to 100')
        quality = int(m[1] or JPEG_QUALITY)
        return cls(f'jpeg:{quality}', 'jpeg', quality)

    def encode(self, image: np.ndarray) -> bytes:
        """A file of the kind 'png' or 'jpeg' of an image uint8 [H, W, 3] rgb."""
        import cv2

        if self.kind == 'png':
            # Run lengths of differences to the line above: on rendered and on noisy pictures alike a half
            # of the time of OpenCV's level 1, and on noisy ones smaller than its level 6.
            suffix, options = '.png', [cv2.IMWRITE_PNG_COMPRESSION, 1,
                                       cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
            if hasattr(cv2, 'IMWRITE_PNG_FILTER'):      # OpenCV 4.12; SUB before, which is nearly as good
                options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
        elif self.kind == 'jpeg':
            # Full resolution of colour: the objects differ in nothing else, and halving it costs 10 dB.
            suffix, options = '.jpg', [cv2.IMWRITE_JPEG_QUALITY, self.quality,
                                       cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        else:
            raise ValueError('raw images are not encoded')
        ok, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
        if not ok:
            raise ValueError(f'an image of shape {image.shape} cannot be encoded as {self.name}')
        return data.tobytes()


def decode(data: bytes | np.ndarray) -> np.ndarray:
    """The image uint8 [H, W, 3] rgb of a PNG or JPEG file; ValueError where it is neither, or damaged."""
    import cv2

    data = np.frombuffer(data, np.uint8)
    width, height = _size(data.tobytes())
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f'an encoded image claims to have {width} x {height} pixels')
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as e:
        raise ValueError(f'an encoded image is damaged: {e.err}') from None
    if image is None or image.shape[:2] != (height, width):
        raise ValueError('an encoded image is damaged')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _size(data: bytes) -> tuple[int, int]:
    """(width, height) as the file's header claims; ValueError where it has none."""
    if data[:8] == b'\x89PNG\r\n\x1a\n' and len(data) >= 24:
        return struct.unpack_from('>II', data, 16)
    if data[:2] == b'\xff\xd8':
        at = 2
        while at + 9 <= len(data) and data[at] == 0xff:
            marker, (length,) = data[at + 1], struct.unpack_from('>H', data, at + 2)
            if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):     # a start of frame
                height, width = struct.unpack_from('>HH', data, at + 5)
                return width, height
            at += 2 + length
    raise ValueError('an encoded image is neither PNG nor JPEG, or damaged')


@dataclass(frozen=True)
class _Image:
    """What `messages.decode` looks at of a sensor_msgs/Image."""

    height: int
    width: int
    encoding: str
    step: int
    data: np.ndarray


def as_image(message) -> _Image:
    """A sensor_msgs/CompressedImage as the image that it stands for, rgb8; ValueError where it is damaged."""
    image = decode(message.data)
    height, width, _ = image.shape
    return _Image(height, width, 'rgb8', 3 * width, image.reshape(-1))


class ImageEncoder:
    """Encodes serialised images on their way into a bag, and lets the bag say so.

    Called with (topic, message type, serialised message) it returns what to write instead: images become
    CompressedImages, EpisodeInfo gets the codec's name into its metadata, all else stays as it is. So does
    an image that is not rgb8 without padding: nothing that was recorded may be lost to its codec.

    Args:
      codec: 'png' or 'jpeg'.
      msg_dir: folder with chef_msgs' .msg files; found if not given.
    """

    def __init__(self, codec: Codec, msg_dir: Path | str | None = None):
        self.codec, self._store = codec, typestore(msg_dir)
        # the words of image_transport: what it was, and how it is stored
        self._format = f'rgb8; {codec.kind} compressed bgr8'

    def __call__(self, topic: str, msgtype: str, data: bytes) -> tuple[str, str, bytes]:
        if msgtype == IMAGE:
            return self._image(topic, data)
        if msgtype == INFO:
            return topic, msgtype, self._info(data)
        return topic, msgtype, data

    def _image(self, topic: str, data: bytes) -> tuple[str, str, bytes]:
        m = self._store.deserialize_cdr(data, IMAGE)
        if m.encoding != 'rgb8' or m.step != 3 * m.width or m.data.size != m.step * m.height or not m.data.size:
            return topic, IMAGE, data
        encoded = self.codec.encode(m.data.reshape(m.height, m.width, 3))
        message = self._store.types[COMPRESSED](m.header, self._format, np.frombuffer(encoded, np.uint8))
        return compressed_topic(topic), COMPRESSED, bytes(self._store.serialize_cdr(message, COMPRESSED))

    def _info(self, data: bytes) -> bytes:
        m = self._store.deserialize_cdr(data, INFO)
        try:
            metadata = json.loads(m.metadata or '{}')
        except ValueError:
            metadata = None
        if not isinstance(metadata, dict):
            return data
        m.metadata = json.dumps({**metadata, KEY: self.codec.name})
        return bytes(self._store.serialize_cdr(m, INFO))


def encoder(name: str, msg_dir: Path | str | None = None) -> ImageEncoder | None:
    """What encodes for a codec's name; None for 'raw', which leaves all as it is. ValueError: no such codec."""
    codec = Codec.parse(name)
    return None if codec.kind == 'raw' else ImageEncoder(codec, msg_dir)

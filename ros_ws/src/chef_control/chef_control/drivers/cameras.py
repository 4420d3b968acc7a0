# SPDX-License-Identifier: Apache-2.0
"""Cameras: capture, crop, scale."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from sensor_msgs.msg import Image

from chef_control.drivers.sensors import SensorDriver
from chef_control.node import ConfigError, Param, to_time
from chef_task.spaces import CAMERAS, IMAGE_SHAPE


def crop_and_scale(image: np.ndarray, shape: tuple[int, int, int] = IMAGE_SHAPE) -> np.ndarray:
    """The largest centred crop of the wanted aspect, scaled: [H, W, 3] to `shape`, uint8."""
    height, width = image.shape[:2]
    scale = min(height / shape[0], width / shape[1])
    h, w = round(shape[0] * scale), round(shape[1] * scale)
    top, left = (height - h) // 2, (width - w) // 2
    image = image[top:top + h, left:left + w]
    if image.shape == shape:
        return np.ascontiguousarray(image)
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def image_message(image: np.ndarray, stamp: int, frame: str):
    """An rgb8 sensor_msgs/Image of `image` [H, W, 3] uint8, stamped at capture, ns."""
    m = Image(height=image.shape[0], width=image.shape[1], encoding='rgb8', step=3 * image.shape[1])
    m.header.stamp, m.header.frame_id = to_time(stamp), frame
    # array.array takes the fast path of the generated setter; a list would take ms
    m.data = array('B', image.tobytes())
    return m


class CameraDriver(SensorDriver):
    """Publishes one of the cell's cameras: of a simulated cell what it renders from the world's state."""

    PARAMS = (*SensorDriver.PARAMS, Param('camera', '', f'which camera: one of {", ".join(CAMERAS)}'),
              Param('triplet', 1, 'object triplet in the scene, 1..5'))
    ROLE, DEVICE_STREAMS = 'cameras', ('render',)

    @property
    def device_name(self) -> str:
        return self._camera

    def prepare(self) -> None:
        camera = self.params['camera']
        if camera not in CAMERAS:
            raise ConfigError(f'camera {camera!r} does not exist, choose one of {", ".join(CAMERAS)}')
        self._camera = camera
        if self.cell.real:
            self.DEVICE_STREAMS = (camera,)
            self._render = None
        else:
            self._render = Rendering(camera, self.params['triplet'])
        self._images = self.sensor_publisher(camera, Image)

    def on_sample(self, sample: dict) -> None:
        image = sample['image'] if self._render is None else self._render(sample)
        self._images.publish(image_message(crop_and_scale(image), sample['stamp'], f'{self._camera}_optical'))

    def on_bad_sample(self, error: Exception) -> None:
        super().on_bad_sample(error)
        if self._render is not None:    # a renderer that fails once does not recover
            self.finished = 1


class Rendering:
    """A simulated camera's images; its GL context belongs to the thread that first asks for one."""

    def __init__(self, camera: str, triplet: int):
        from chef_sim.render import Renderer

        self._camera, self._renderer = camera, None
        self._make = lambda: Renderer(triplet=triplet)

    def __call__(self, sample: dict) -> np.ndarray:
        if self._renderer is None:
            self._renderer = self._make()
        return self._renderer.render(self._camera, sample)

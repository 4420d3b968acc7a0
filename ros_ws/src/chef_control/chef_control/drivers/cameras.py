# SPDX-License-Identifier: Apache-2.0
"""Cameras: capture, crop, scale."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from sensor_msgs.msg import Image

from chef_control.drivers.simulated import SensorDriver
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


class SimulatedCamera(SensorDriver):
    """Renders one of the benchmark's cameras from the world's state."""

    PARAMS = (*SensorDriver.PARAMS, Param('camera', '', f'which camera: one of {", ".join(CAMERAS)}'),
              Param('triplet', 1, 'object triplet in the scene, 1..5'))
    DEVICE_STREAMS = ('render',)

    def prepare(self) -> None:
        from chef_sim.render import Renderer

        camera = self.params['camera']
        if camera not in CAMERAS:
            raise ConfigError(f'camera {camera!r} does not exist, choose one of {", ".join(CAMERAS)}')
        self._camera = camera
        self._make = lambda: Renderer(triplet=self.params['triplet'])
        self._renderer = None
        self._images = self.sensor_publisher(camera, Image)

    def on_sample(self, sample: dict) -> None:
        if self._renderer is None:  # the GL context belongs to the thread that uses it
            self._renderer = self._make()
        image = crop_and_scale(self._renderer.render(self._camera, sample))
        self._images.publish(image_message(image, sample['stamp'], f'{self._camera}_optical'))

    def _on_batch(self, samples: list[dict]) -> None:
        try:
            super()._on_batch(samples)
        except Exception as e:  # a renderer that fails must end the node, not only its thread
            self.get_logger().fatal(str(e))
            self.finished = 1

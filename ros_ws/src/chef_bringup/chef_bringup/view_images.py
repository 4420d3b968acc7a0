# SPDX-License-Identifier: Apache-2.0
"""Node `view_images`: the encoded images of a bag that is played, as images again, for rviz.

rviz2 shows encoded images itself only where image_transport_plugins is installed. This node is for played bags
alone: beside a cell that runs, its images would reach the cell's own topics.
"""

from __future__ import annotations

import sys
from array import array

from chef_control.node import CellNode, run
from chef_task.bag import codec
from chef_task.spaces import CAMERAS, STREAMS
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

_SENSORS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def decoded(message: CompressedImage) -> Image:
    """The image that an encoded one stands for, its header the same; ValueError where it is damaged."""
    image = codec.as_image(message)
    return Image(
        header=message.header, height=image.height, width=image.width, encoding=image.encoding, step=image.step,
        data=array("B", image.data.tobytes()),
    )  # fmt: skip


class ViewImages(CellNode):
    """The node; all names are relative."""

    def __init__(self, name: str):
        super().__init__(name)
        for camera in CAMERAS:
            topic = STREAMS[camera].topic
            images = self.create_publisher(Image, topic, QoSProfile(depth=5))
            self.create_subscription(
                CompressedImage, codec.compressed_topic(topic),
                lambda m, images=images, camera=camera: self._take(m, images, camera), _SENSORS,
            )  # fmt: skip

    def _take(self, message: CompressedImage, images, camera: str) -> None:
        try:
            images.publish(decoded(message))
        except ValueError as error:
            self.get_logger().warning(f"{camera}: {error}", throttle_duration_sec=5.0)


def main() -> None:
    """Executable `view_images`."""
    run(ViewImages, "view_images")


if __name__ == "__main__":
    sys.exit(main())

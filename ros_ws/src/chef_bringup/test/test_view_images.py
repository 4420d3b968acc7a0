# SPDX-License-Identifier: Apache-2.0
"""The node `view_images` with real messages: encoded images are published, images come back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("sensor_msgs.msg")
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("chef_task", "chef_control", "chef_sim")]

import rclpy  # noqa: E402
from chef_task.bag.codec import Codec  # noqa: E402
from chef_task.spaces import CAMERAS  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from chef_bringup.domain import Domain  # noqa: E402
from chef_bringup.view_images import decoded  # noqa: E402

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def encoded(frame: str) -> CompressedImage:
    message = CompressedImage(format="rgb8; png compressed bgr8", data=Codec.parse("png").encode(PIXELS))
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = 12, 345
    return message


def holds(image: Image, frame: str) -> bool:
    return (
        (image.header.frame_id, image.header.stamp.sec, image.header.stamp.nanosec) == (frame, 12, 345)
        and (image.height, image.width, image.encoding, image.step) == (24, 32, "rgb8", 96)
        and bytes(image.data) == PIXELS.tobytes()
    )


def test_an_image_comes_back_with_its_header():
    assert holds(decoded(encoded("eye")), "eye")


def test_a_damaged_image_is_a_value_error():
    with pytest.raises(ValueError, match="damaged"):
        decoded(CompressedImage(data=b"\x89PNG"))


def test_the_node():
    domain = Domain()
    env = {**os.environ, "ROS_DOMAIN_ID": str(domain.number), "PYTHONPATH": os.pathsep.join(sys.path)}
    env["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    script = Path(__file__).resolve().parents[1] / "scripts" / "view_images"
    command = [sys.executable, str(script), "--ros-args", "-r", "__ns:=/cell_1"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain.number)
    node = rclpy.create_node("test", namespace="cell_1", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    got: dict[str, Image] = {}
    try:
        publishers = {c: node.create_publisher(CompressedImage, f"{c}/image/compressed", 10) for c in CAMERAS}
        for camera in CAMERAS:
            node.create_subscription(Image, f"{camera}/image", lambda m, c=camera: got.__setitem__(c, m), 5)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and len(got) < len(CAMERAS):
            for camera, publisher in publishers.items():
                publisher.publish(CompressedImage(data=b"no image"))     # is told, and ends nothing
                publisher.publish(encoded(camera))
            executor.spin_once(timeout_sec=0.05)
        assert set(got) == set(CAMERAS) and all(holds(image, camera) for camera, image in got.items())
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0, process.stdout.read()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
        domain.release()

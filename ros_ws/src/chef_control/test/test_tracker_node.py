# SPDX-License-Identifier: Apache-2.0
"""The tracker's node in a real cell: pictures of the camera drivers in, poses and how far to believe them out."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import yaml

rclpy = pytest.importorskip('rclpy')
chef_msgs = pytest.importorskip('chef_msgs.msg')

from geometry_msgs.msg import PoseArray  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from test_devices import config  # noqa: E402
from test_lifecycle import Bench  # noqa: E402
from test_tracking import CAMERA_LIST, SPREAD, paint  # noqa: E402

from chef_control.calibration import file  # noqa: E402
from chef_control.drivers.cameras import crop_and_scale, image_message  # noqa: E402
from chef_control.drivers.sensors import ObjectTracker  # noqa: E402
from chef_control.fakes.colour_tracker import truth  # noqa: E402
from chef_msgs.msg import ObjectsQuality  # noqa: E402
from chef_task.qos import profile  # noqa: E402

os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


def test_pictures_become_poses_with_their_quality(tmp_path):
    file.save(tmp_path / 'calibration.yaml', truth())
    path = config(tmp_path, calibration=str(tmp_path / 'calibration.yaml'))
    values = yaml.safe_load(path.read_text())
    values['devices']['tracker'] = {'driver': 'colour'}
    path.write_text(yaml.safe_dump(values))
    bench = Bench(ObjectTracker, 'tracker', cell_config=str(path), triplet=4)
    try:
        poses, quality = [], []
        bench.probe.create_subscription(PoseArray, 'objects', poses.append, profile('sensor'))
        bench.probe.create_subscription(ObjectsQuality, 'objects/quality', quality.append, profile('stream'))
        cameras = {c.name: bench.publisher(Image, f'{c.name}/image', 'image_out') for c in CAMERA_LIST}
        # cubes of 50 mm are red of triplet 4
        pictures = {c.name: crop_and_scale(paint(c, SPREAD)) for c in CAMERA_LIST}

        def heard():
            stamp = time.time_ns()
            for name, publisher in cameras.items():
                publisher.publish(image_message(pictures[name], stamp, name))
            return poses and quality
        bench.until(heard)
        assert len(poses[0].poses) == 3 and poses[0].header.frame_id == 'base'
        by_stamp = {(q.header.stamp.sec, q.header.stamp.nanosec): q for q in quality}
        q = next((by_stamp[s] for p in poses if (s := (p.header.stamp.sec, p.header.stamp.nanosec)) in by_stamp))
        assert all(0.0 <= c <= 1.0 for c in q.confidence) and len(q.views) == 3
        assert np.isfinite([p.position.x for p in poses[0].poses]).any()
    finally:
        bench.close()

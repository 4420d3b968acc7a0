# SPDX-License-Identifier: Apache-2.0
"""Messages decode to the same bits whether they come live (rclpy) or from a bag (rosbags)."""

import array
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chef_task.bag.definitions import definition, typestore
from chef_task.bag.synthetic_samples import Scene, encode
from chef_task.messages import decode, stamp_ns
from chef_task.spaces import IMAGE_SHAPE, STREAMS

STAMP = 1_795_467_300_123_456_789


def bag_message(name):
    """The stream's message as a bag gives it: serialised and decoded by rosbags."""
    store, stream = typestore(), STREAMS[name]
    message, _ = encode(store, stream, STAMP, Scene(np.random.default_rng(5), 40).sample(name, 20.0))
    data = bytes(store.serialize_cdr(message, stream.msgtype))
    return data, store.deserialize_cdr(data, stream.msgtype)


def live_like(value):
    """The same with containers as rclpy makes them: array.array and lists instead of numpy arrays."""
    if isinstance(value, np.ndarray):
        return array.array({'uint8': 'B', 'float64': 'd', 'float32': 'f'}[value.dtype.name], value.tobytes())
    if isinstance(value, list):
        return [live_like(v) for v in value]
    if hasattr(value, '__dataclass_fields__'):
        return SimpleNamespace(**{k: live_like(getattr(value, k)) for k in value.__dataclass_fields__})
    return value


def assert_same(a, b, shapes):
    assert set(a) == set(b) == set(shapes)
    for field, shape in shapes.items():
        assert a[field].shape == shape and a[field].dtype == b[field].dtype
        np.testing.assert_array_equal(a[field], b[field])


@pytest.mark.parametrize('name', STREAMS)
def test_decode_needs_only_the_fields(name):
    _, message = bag_message(name)
    assert_same(decode(name, message), decode(STREAMS[name], live_like(message)), STREAMS[name].fields)
    assert stamp_ns(message.header.stamp) == STAMP


@pytest.mark.parametrize('name', STREAMS)
def test_live_rclpy_messages_decode_to_the_same_bits(name):
    serialization = pytest.importorskip('rclpy.serialization')
    package, _, kind = STREAMS[name].msgtype.split('/')
    live_type = getattr(pytest.importorskip(f'{package}.msg'), kind)
    data, message = bag_message(name)
    live = serialization.deserialize_message(data, live_type)
    assert_same(decode(name, live), decode(name, message), STREAMS[name].fields)


def test_type_hashes_are_those_of_the_built_interfaces():
    """A player refuses a bag, or warns, when its types hash otherwise than the running ones."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    built = [f for p in prefixes for f in Path(p, 'share', 'chef_msgs', 'msg').glob('*.json')]
    if not built:
        pytest.skip('chef_msgs is not built or its workspace is not sourced')
    for file in built:
        name = f'chef_msgs/msg/{file.stem}'
        hashes = {h['type_name']: h['hash_string'] for h in json.loads(file.read_text())['type_hashes']}
        assert definition(name)[1] == hashes[name], name


def test_wrong_shapes_and_encodings_are_refused():
    _, joints = bag_message('joints')
    joints.position = joints.position[:6]
    with pytest.raises(ValueError, match='position'):
        decode('joints', joints)
    _, image = bag_message('basket_back_left')
    image.encoding = 'bgr8'
    with pytest.raises(ValueError, match='bgr8'):
        decode('basket_back_left', image)
    _, image = bag_message('basket_back_left')
    image.height, image.width, image.step = 64, 256, 768
    with pytest.raises(ValueError, match=str(IMAGE_SHAPE[0])):
        decode('basket_back_left', image)
    _, objects = bag_message('objects')
    objects.poses = objects.poses[:2]
    with pytest.raises(ValueError, match='poses'):
        decode('objects', objects)

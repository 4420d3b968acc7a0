# SPDX-License-Identifier: Apache-2.0
"""What is read from serialised bytes must be what decoding them gives, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chef_task.bag.definitions import typestore
from chef_task.messages import (decode, decode_serialized_image, decode_serialized_wrench, serialized_stamp_ns,
                                stamp_ns)

TYPES = typestore()
NAME, IMAGE = 'geometry_msgs/msg/WrenchStamped', 'sensor_msgs/msg/Image'
numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=20),
       st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1), st.lists(numbers, min_size=6, max_size=6))
def test_a_serialised_wrench_is_read_as_decoded(frame, sec, nanosec, values):
    vector = TYPES.types['geometry_msgs/msg/Vector3']
    wrench = TYPES.types['geometry_msgs/msg/Wrench'](force=vector(*values[:3]), torque=vector(*values[3:]))
    stamp = TYPES.types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    header = TYPES.types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame)
    data = bytes(TYPES.serialize_cdr(TYPES.types[NAME](header=header, wrench=wrench), NAME))
    expected = decode('wrench', TYPES.deserialize_cdr(data, NAME))
    read = decode_serialized_wrench(data)
    assert serialized_stamp_ns(data) == stamp_ns(stamp)
    for key in ('force', 'torque'):
        assert np.asarray(read[key], float).tobytes() == np.asarray(expected[key], float).tobytes()


def image(frame, height, width, encoding='rgb8', step=None, size=None) -> bytes:
    pixels = np.arange(height * width * 3 if size is None else size, dtype=np.uint32).astype(np.uint8)
    header = TYPES.types['std_msgs/msg/Header'](
        stamp=TYPES.types['builtin_interfaces/msg/Time'](sec=1, nanosec=2), frame_id=frame)
    return bytes(TYPES.serialize_cdr(TYPES.types[IMAGE](
        header=header, height=height, width=width, encoding=encoding, is_bigendian=0,
        step=3 * width if step is None else step, data=pixels), IMAGE))


@given(st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=20), st.integers(1, 40), st.integers(1, 40))
def test_a_serialised_image_is_read_as_it_was_written(frame, height, width):
    read = decode_serialized_image(image(frame, height, width))['image']
    expected = np.arange(height * width * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize('changes, error', [
    (dict(encoding='mono8'), 'image is mono8 with step 12'), (dict(encoding=''), 'image is  with step'),
    (dict(step=16), 'rgb8 with step 16'), (dict(size=30), 'image has 30 bytes, expected 3 rows of 12')])
def test_an_image_that_is_none_is_refused_as_by_the_decoder(changes, error):
    data = image('camera', 3, 4, **changes)
    with pytest.raises(ValueError, match=error):
        decode_serialized_image(data)
    with pytest.raises(ValueError, match=error):
        decode('basket_front_left', TYPES.deserialize_cdr(data, IMAGE))


@given(st.data())
def test_a_damaged_image_is_an_error_or_an_image(data):
    whole = image('camera', 6, 5)
    damaged = bytearray(whole[:data.draw(st.integers(13, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(12, min(len(damaged), 60) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_serialized_image(bytes(damaged))
    except ValueError:
        pass


def test_big_endian_is_left_to_the_decoder():
    assert decode_serialized_wrench(bytes([0, 0, 0, 0]) + bytes(100)) is None
    assert decode_serialized_image(bytes([0, 0, 0, 0]) + bytes(100)) is None

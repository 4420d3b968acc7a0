# SPDX-License-Identifier: Apache-2.0
"""What is read from serialised bytes must be what decoding them gives, bit for bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chef_task.bag.definitions import typestore
from chef_task.messages import decode, decode_serialized_wrench, serialized_stamp_ns, stamp_ns

TYPES = typestore()
NAME = 'geometry_msgs/msg/WrenchStamped'
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


def test_big_endian_is_left_to_the_decoder():
    assert decode_serialized_wrench(bytes([0, 0, 0, 0]) + bytes(100)) is None

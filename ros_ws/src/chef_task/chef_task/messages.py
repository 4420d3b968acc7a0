# SPDX-License-Identifier: Apache-2.0
"""ROS messages to plain samples.

Duck-typed on the messages' fields, so that the live graph (rclpy) and a bag (rosbags) are decoded by the
same lines: that is what makes live and recorded observations equal bit for bit.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import numpy as np

from chef_task.spaces import JOINTS, STREAMS, Stream

Sample = Mapping[str, np.ndarray]


def stamp_ns(stamp) -> int:
    """A builtin_interfaces/Time in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def serialized_stamp_ns(data: bytes) -> int:
    """Stamp, ns, of a serialised message that begins with a std_msgs/Header, without decoding the rest.

    CDR: 4 bytes of encapsulation (the second tells the byte order), then int32 s, uint32 ns.

    Raises:
      ValueError: it is too short.
    """
    try:
        sec, nanosec = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    except (IndexError, struct.error):
        raise ValueError(f'a message of {len(data)} bytes has no header') from None
    return sec * 1_000_000_000 + nanosec


def decode_serialized_wrench(data: bytes) -> Sample | None:
    """A serialised WrenchStamped as `decode` gives it, in a twentieth of the time; None if it is big-endian.

    The one 100 Hz stream of which every sample is looked at. CDR: the header's stamp, its frame as a counted
    string, then six doubles, aligned to 8 bytes from the end of the encapsulation.

    Raises:
      ValueError: it is too short.
    """
    if len(data) < 16:
        raise ValueError(f'a message of {len(data)} bytes is no wrench')
    if data[1] != 1:
        return None
    (length,) = struct.unpack_from('<I', data, 12)
    start = 4 + (12 + length + 7) // 8 * 8
    values = np.frombuffer(data, '<f8', 6, start)
    return {'force': values[:3], 'torque': values[3:]}


def decode_serialized_image(data: bytes) -> Sample | None:
    """A serialised Image as `decode` gives it, without copying its pixels; None if it is big-endian.

    CDR: the header's stamp, its frame as a counted string, height and width, the encoding as a counted string,
    one byte, then the step and the counted pixels; all counts uint32, aligned to 4 bytes.

    Raises:
      ValueError: as `decode`, or cut off.
    """
    if data[1] != 1:
        return None
    try:
        at = _after_string(data, 12)
        height, width = struct.unpack_from('<II', data, at)
        end = at + 12 + struct.unpack_from('<I', data, at + 8)[0]
        encoding = data[at + 12:end - 1].decode('ascii', 'replace')
        step, size = struct.unpack_from('<II', data, 4 + (end - 4 + 1 + 3) // 4 * 4)
    except struct.error:
        raise ValueError('image is cut off') from None
    start = 4 + (end - 4 + 1 + 3) // 4 * 4 + 8
    check_image(encoding, step, height, width, min(size, len(data) - start))
    return {'image': np.frombuffer(data, np.uint8, size, start).reshape(height, width, 3)}


def _after_string(data: bytes, at: int) -> int:
    """Where what is aligned to 4 bytes goes on after the counted string at `at`."""
    return 4 + (at + struct.unpack_from('<I', data, at)[0] + 3) // 4 * 4


def check_image(encoding: str, step: int, height: int, width: int, size: int) -> None:
    """ValueError unless it is rgb8 without padding and has the pixels it says it has."""
    if encoding != 'rgb8' or step != 3 * width:
        raise ValueError(f'image is {encoding} with step {step}, expected rgb8 without padding')
    if size != height * step:
        raise ValueError(f'image has {size} bytes, expected {height} rows of {step}')


def _pose(p) -> list[float]:
    o = p.orientation
    return [p.position.x, p.position.y, p.position.z, o.w, o.x, o.y, o.z]


def _xyz(v) -> list[float]:
    return [v.x, v.y, v.z]


def _joints(m) -> Sample:
    if tuple(m.name) != JOINTS:
        raise ValueError(f'joint_states names {list(m.name)}, expected {list(JOINTS)} in this order')
    return {
        'position': np.array(m.position, float),
        'velocity': np.array(m.velocity, float),
        'effort': np.array(m.effort, float),
    }


def _gripper(m) -> Sample:
    return {
        'position': np.array([m.position], float),
        'velocity': np.array([m.velocity], float),
        'grasp': np.array([m.grasp], float),
    }


def _image(m) -> Sample:
    check_image(m.encoding, m.step, m.height, m.width, len(m.data))
    return {'image': np.frombuffer(m.data, np.uint8).reshape(m.height, m.width, 3)}


_DECODERS: dict[str, Callable] = {
    'sensor_msgs/msg/JointState': _joints,
    'geometry_msgs/msg/PoseStamped': lambda m: {'pose': np.array(_pose(m.pose))},
    'geometry_msgs/msg/TwistStamped': lambda m: {
        'twist': np.array(_xyz(m.twist.linear) + _xyz(m.twist.angular))},
    'chef_msgs/msg/GripperState': _gripper,
    'geometry_msgs/msg/WrenchStamped': lambda m: {
        'force': np.array(_xyz(m.wrench.force)), 'torque': np.array(_xyz(m.wrench.torque))},
    'geometry_msgs/msg/PoseArray': lambda m: {'poses': np.array([_pose(p) for p in m.poses]).reshape(-1, 7)},
    'sensor_msgs/msg/Image': _image,
}


def decode(stream: str | Stream, msg) -> Sample:
    """The message as a sample: field name to array, shapes as in `spaces.STREAMS`.

    Raises:
      ValueError: a field has a wrong shape, or the image an unexpected encoding.
    """
    s = STREAMS[stream] if isinstance(stream, str) else stream
    sample = _DECODERS[s.msgtype](msg)
    for name, shape in s.fields.items():
        if sample[name].shape != shape:
            raise ValueError(f'{s.topic}: {name} has shape {sample[name].shape}, expected {shape}')
    return sample

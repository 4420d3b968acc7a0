# SPDX-License-Identifier: Apache-2.0
"""Samples as they come over the wire: decoded late, compared without being decoded."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy')

from chef_control.plausible import content  # noqa: E402
from chef_control.sensors import LazySample  # noqa: E402
from chef_task.bag.definitions import typestore  # noqa: E402
from chef_task.bag.synthetic_samples import Scene, encode  # noqa: E402
from chef_task.messages import decode  # noqa: E402
from chef_task.spaces import CAMERAS, STREAMS  # noqa: E402

TYPES = typestore()
SECOND = 1_000_000_000


def serialised(name: str, stamp: int, at: float = 20.0):
    """A message of a made-up scene, in bytes and decoded."""
    stream = STREAMS[name]
    message, _ = encode(TYPES, stream, stamp, Scene(np.random.default_rng(5), 40).sample(name, at))
    data = bytes(TYPES.serialize_cdr(message, stream.msgtype))
    return data, TYPES.deserialize_cdr(data, stream.msgtype)


@pytest.mark.parametrize('name', STREAMS)
def test_a_lazy_sample_is_what_its_message_says(name):
    data, message = serialised(name, 7 * SECOND)
    lazy, expected = LazySample(STREAMS[name], data), decode(name, message)
    assert set(lazy) == set(expected) and len(lazy) == len(expected)
    for field, value in expected.items():
        np.testing.assert_array_equal(lazy[field], value)


@pytest.mark.parametrize('name', STREAMS)
def test_content_is_all_but_the_stamp(name):
    one, later = (LazySample(STREAMS[name], serialised(name, s)[0]) for s in (7 * SECOND, 8 * SECOND + 50))
    assert content(one) == content(later)
    changed = bytearray(serialised(name, 8 * SECOND)[0])
    changed[-5] ^= 1
    assert content(LazySample(STREAMS[name], bytes(changed))) != content(one)


def test_an_image_of_another_size_is_refused_when_it_is_looked_at():
    _, message = serialised(CAMERAS[0], SECOND)
    message.height, message.data = 64, message.data[:64 * message.step]
    lazy = LazySample(STREAMS[CAMERAS[0]], bytes(TYPES.serialize_cdr(message, STREAMS[CAMERAS[0]].msgtype)))
    with pytest.raises(ValueError, match=r'image has shape \(64, 128, 3\)'):
        lazy['image']

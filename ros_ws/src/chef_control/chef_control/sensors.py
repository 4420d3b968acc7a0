# SPDX-License-Identifier: Apache-2.0
"""Subscribing to the cell's streams."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from chef_control.node import CellNode
from chef_task.messages import decode, decode_serialized_image, decode_serialized_wrench, serialized_stamp_ns
from chef_task.qos import profile
from chef_task.spaces import STREAMS, Stream

SILENT_S = 1.0      # a stream that is silent for longer shows in the diagnostics


@lru_cache
def message_class(msgtype: str):
    """The Python class of `package/msg/Name`."""
    package, kind, name = msgtype.split('/')
    return getattr(importlib.import_module(f'{package}.{kind}'), name)


class LazySample(Mapping):
    """A sample that is decoded when it is looked at: of a 100 Hz stream a 20 Hz tick needs every fifth.

    Looking at it raises ValueError if the message is not what its stream should be.
    """

    def __init__(self, stream: Stream, data: bytes):
        self._stream, self._data = stream, data
        self._sample: Mapping | None = None

    @property
    def payload(self) -> bytes:
        """The serialised message without the encapsulation and the stamp it begins with."""
        return self._data[12:]

    def _decoded(self) -> Mapping:
        if self._sample is None and self._stream.name == 'wrench':
            self._sample = decode_serialized_wrench(self._data)
        if self._sample is None and self._stream.is_image:
            self._sample = self._image()
        if self._sample is None:
            message = deserialize_message(self._data, message_class(self._stream.msgtype))
            self._sample = decode(self._stream, message)
        return self._sample

    def _image(self) -> Mapping | None:
        sample, shape = decode_serialized_image(self._data), self._stream.fields['image']
        if sample is not None and sample['image'].shape != shape:
            raise ValueError(f'image has shape {sample["image"].shape}, expected {shape}')
        return sample

    def __getitem__(self, key):
        return self._decoded()[key]

    def __iter__(self):
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._stream.fields)


def subscribe(node: CellNode, streams: Iterable[str], lockstep: bool, on_sample: Callable) -> dict[str, Subscription]:
    """Calls on_sample(stream, stamp_ns, LazySample) for every message of the streams; subscriptions by stream."""
    made = {}
    for name in streams:
        stream = STREAMS[name]
        # in lockstep samples come when somebody commands, which may be never
        meter = node.health.meter(name, None if lockstep else SILENT_S)

        def callback(data: bytes, name=name, stream=stream, meter=meter):
            meter.tick()
            on_sample(name, serialized_stamp_ns(data), LazySample(stream, data))

        made[name] = node.create_subscription(message_class(stream.msgtype), stream.topic, callback,
                                              profile('sensor', lockstep), raw=True)
    return made

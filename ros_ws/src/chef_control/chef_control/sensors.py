# SPDX-License-Identifier: Apache-2.0
"""Subscribing to the cell's streams."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable

from rclpy.node import Node

from chef_task.messages import decode, stamp_ns
from chef_task.qos import profile
from chef_task.spaces import STREAMS


def message_class(msgtype: str):
    """The Python class of `package/msg/Name`."""
    package, kind, name = msgtype.split('/')
    return getattr(importlib.import_module(f'{package}.{kind}'), name)


def subscribe(node: Node, streams: Iterable[str], lockstep: bool, on_sample: Callable,
              on_error: Callable | None = None) -> None:
    """Calls on_sample(stream, stamp_ns, sample) for every message of the streams.

    on_error(stream, text) is called for a message that cannot be decoded.
    """
    for name in streams:
        stream = STREAMS[name]

        def callback(m, name=name, stream=stream):
            try:
                sample = decode(stream, m)
            except ValueError as e:
                node.get_logger().error(str(e), throttle_duration_sec=1.0)
                if on_error:
                    on_error(name, str(e))
                return
            on_sample(name, stamp_ns(m.header.stamp), sample)

        node.create_subscription(message_class(stream.msgtype), stream.topic, callback,
                                 profile('sensor', lockstep))

# SPDX-License-Identifier: Apache-2.0
"""A relay between the nodes of a graph: passes messages on, or drops, delays or spoils them when told to.

The graph gives each reader in `RELAYED` another name for the topic (launch argument `remap`), and this process
forwards `topic` to `topic_relayed`; the recorder and everybody else still see the real topic. It takes one JSON
object a line, `{"topic": "action", "mode": "drop", "amount": 1.0, "duration_s": 0.5, "seed": 3}`, or for an operator
`{"call": "safety/stop"}`, a Trigger service. It answers each with the wall-clock time in ns at which that was done, 0
if it was refused.

    python relay.py NAMESPACE
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import subprocess
import sys
import time
from collections import deque

from chef_bringup.domain import middleware

# topic: (type, QoS profile, the node that reads it through the relay)
RELAYED = {
    'tick': ('chef_msgs/msg/Tick', 'stream', 'policy'),
    'action': ('chef_msgs/msg/Action', 'stream', 'episode'),
    'command': ('chef_msgs/msg/Command', 'stream', 'controller'),
    'joint_velocity_desired': ('chef_msgs/msg/JointVelocityCommand', 'stream', 'safety'),
    'arm/velocity_command': ('chef_msgs/msg/JointVelocityCommand', 'stream', 'arm'),
    'gripper/velocity_command': ('chef_msgs/msg/JointVelocityCommand', 'stream', 'gripper'),
    'safety/state': ('chef_msgs/msg/SafetyState', 'state', 'episode'),
    'recorder/state': ('chef_msgs/msg/RecorderState', 'state', 'episode'),
    'policy/state': ('chef_msgs/msg/PolicyState', 'state', 'episode'),
}
SERVICES = ('safety/stop', 'safety/clear')
MODES = ('drop', 'delay', 'nan')    # amount: share of the messages; s; unused
NAN_FIELDS = {'action': 'action', 'joint_velocity_desired': 'velocity'}


def remap() -> str:
    """The launch argument that puts the relay between."""
    return ','.join(f'{reader}:{topic}={topic}_relayed' for topic, (_, _, reader) in RELAYED.items())


class Spoiler:
    """What happens to the messages of one topic: `push` each, then `due` gives those that go on now. Times in s."""

    def __init__(self):
        self._mode, self._amount, self._until, self._random = '', 0.0, 0.0, random.Random(0)
        self._held: deque[tuple[float, bytes]] = deque()

    def start(self, mode: str, amount: float, duration_s: float, seed: int, now: float) -> None:
        if mode not in MODES:
            raise ValueError(f'mode {mode!r} does not exist, choose of {", ".join(MODES)}')
        self._mode, self._amount, self._until = mode, amount, now + duration_s
        self._random = random.Random(seed)

    def push(self, data: bytes, now: float, spoil) -> None:
        mode = self._mode if now < self._until else ''
        if mode == 'drop' and self._random.random() < self._amount:
            return
        self._held.append((now + (self._amount if mode == 'delay' else 0.0), spoil(data) if mode == 'nan' else data))

    def due(self, now: float) -> list[bytes]:
        out = []
        while self._held and self._held[0][0] <= now:   # in order, so a late one holds up those behind it
            out.append(self._held.popleft()[1])
        return out


class Relay:
    """The relay as its user sees it: a process of its own, told by its standard input; a context."""

    def __init__(self, namespace: str, domain: int, env: dict[str, str] | None = None):
        self._process = subprocess.Popen(
            [sys.executable, __file__, namespace], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **middleware(os.environ, simulated=True), 'ROS_DOMAIN_ID': str(domain),
                 'OMP_NUM_THREADS': '1', **(env or {})})
        self._answer(30.0)

    def _answer(self, deadline_s: float) -> int:
        ready, _, _ = select.select([self._process.stdout], [], [], deadline_s)
        line = self._process.stdout.readline() if ready else ''
        assert line, 'the relay does not answer'
        return int(line)

    def spoil(self, topic: str, mode: str, amount: float = 1.0, duration_s: float = 1.0, seed: int = 0) -> int:
        """Starts at once; returns when, wall-clock ns."""
        return self._order({'topic': topic, 'mode': mode, 'amount': amount, 'duration_s': duration_s, 'seed': seed})

    def call(self, service: str) -> int:
        """Calls a Trigger service; when, wall-clock ns, or 0 if it was refused or did not answer."""
        return self._order({'call': service})

    def _order(self, order: dict) -> int:
        self._process.stdin.write(json.dumps(order) + '\n')
        self._process.stdin.flush()
        return self._answer(10.0)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5.0)
        self._process.stdout.close()


def main() -> None:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.serialization import deserialize_message, serialize_message

    from std_srvs.srv import Trigger

    from chef_control.sensors import message_class
    from chef_task.qos import profile

    rclpy.init()
    node = rclpy.create_node('relay', namespace=sys.argv[1])
    spoilers, publishers = {}, {}

    def spoil(topic: str, data: bytes) -> bytes:
        message = deserialize_message(data, message_class(RELAYED[topic][0]))
        values = getattr(message, NAN_FIELDS[topic])
        setattr(message, NAN_FIELDS[topic], [float('nan')] * len(values))
        return serialize_message(message)

    def forward(topic: str) -> None:
        for data in spoilers[topic].due(time.monotonic()):
            publishers[topic].publish(data)

    def on_message(data: bytes, topic: str) -> None:
        spoilers[topic].push(bytes(data), time.monotonic(), lambda d: spoil(topic, d))
        forward(topic)

    for topic, (msgtype, qos, _) in RELAYED.items():
        kind = message_class(msgtype)
        spoilers[topic] = Spoiler()
        publishers[topic] = node.create_publisher(kind, f'{topic}_relayed', profile(qos))
        node.create_subscription(kind, topic, lambda data, topic=topic: on_message(data, topic), profile(qos), raw=True)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    clients = {name: node.create_client(Trigger, name) for name in SERVICES}

    def call(name: str) -> int:
        now = time.time_ns()
        future = clients[name].call_async(Trigger.Request())
        executor.spin_until_future_complete(future, timeout_sec=2.0)
        return now if future.done() and future.result().success else 0

    orders = b''
    print(time.time_ns(), flush=True)
    while True:
        executor.spin_once(timeout_sec=0.005)
        for topic in RELAYED:
            forward(topic)
        if select.select([0], [], [], 0)[0]:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, orders = (orders + data).split(b'\n')
            for line in lines:
                order = json.loads(line)
                if 'call' in order:
                    print(call(order['call']), flush=True)
                    continue
                spoilers[order.pop('topic')].start(now=time.monotonic(), **order)
                print(time.time_ns(), flush=True)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()

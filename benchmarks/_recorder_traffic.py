# SPDX-License-Identifier: Apache-2.0
"""Traffic for `recorder.py`, a process of its own: publishes streams at their rates and remembers every stamp.

    python _recorder_traffic.py GROUP SECONDS TIMES OUT.json

Says `ready` once the recorder listens, starts at a line on its standard input, says `done` after SECONDS, and
with GROUP `small` sends the last Step at another line. A message that is late is sent late, none is left out.
"""

from __future__ import annotations

import array
import json
import os
import sys
import time
from pathlib import Path

import rclpy
from rclpy.node import Node

from chef_control.node import to_time
from chef_control.sensors import message_class
from chef_msgs.msg import Step
from chef_task.cell import RATES_HZ
from chef_task.qos import profile
from chef_task.rewards import TASKS
from chef_task.spaces import CAMERAS, JOINTS, STREAMS

EPISODE = '20261123T205500_123456_cell_1_000001'
WIDE = tuple(f'wide_{c}/image' for c in CAMERAS)
WIDE_SHAPE, WIDE_HZ = (480, 640, 3), 20.0
WRENCH_HZ = 500.0
MATCH_S = 30.0
# of the cell's configuration, by stream; commands and the like at the control rate
CELL_HZ = {'joints': RATES_HZ['joints'], 'tcp_pose': RATES_HZ['tcp'], 'tcp_twist': RATES_HZ['tcp'],
           'gripper': RATES_HZ['gripper'], 'wrench': RATES_HZ['wrench'], 'objects': RATES_HZ['objects'],
           **{c: RATES_HZ['render'] for c in CAMERAS}}
EVENTS = {'tick': 'Tick', 'action': 'Action', 'command': 'Command', 'joint_velocity_desired': 'JointVelocityCommand',
          'arm/velocity_command': 'JointVelocityCommand', 'gripper/velocity_command': 'JointVelocityCommand'}
EVENT_HZ = 20.0


def plan(times: float) -> dict[str, dict[str, tuple[str, float, tuple[int, ...]]]]:
    """Group to topic to (message type, rate in Hz, shape of an image)."""
    small = {STREAMS[s].topic: (STREAMS[s].msgtype, hz * times, ()) for s, hz in CELL_HZ.items() if s not in CAMERAS}
    small['wrench'] = (small['wrench'][0], max(WRENCH_HZ, small['wrench'][1]), ())
    small |= {topic: (f'chef_msgs/msg/{kind}', EVENT_HZ * times, ()) for topic, kind in EVENTS.items()}
    image = 'sensor_msgs/msg/Image'
    return {
        'small': small,
        'cameras': {STREAMS[c].topic: (image, CELL_HZ[c] * times, STREAMS[c].fields['image']) for c in CAMERAS},
        'wide': {topic: (image, WIDE_HZ, WIDE_SHAPE) for topic in WIDE}}


def _fill(message, topic: str, shape: tuple[int, ...]) -> None:
    """What makes it a sound message of the cell."""
    if shape:
        message.height, message.width, message.encoding, message.step = shape[0], shape[1], 'rgb8', 3 * shape[1]
        message.data = array.array('B', os.urandom(shape[0] * shape[1] * 3))
    elif topic == 'joint_states':
        message.name = list(JOINTS)
        message.position = message.velocity = message.effort = [0.0] * 7


class Traffic(Node):
    """Publishers of one group."""

    def __init__(self, group: str, times: float):
        super().__init__(f'traffic_{group}')
        self._streams = []
        for topic, (kind, hz, shape) in plan(times)[group].items():
            cls = message_class(kind)
            message = cls()
            _fill(message, topic, shape)
            offered = profile('sensor_out' if kind in {s.msgtype for s in STREAMS.values()} else 'stream')
            self._streams.append((topic, self.create_publisher(cls, topic, offered), message, hz))
        self._steps = self.create_publisher(Step, 'step', profile('stream')) if group == 'small' else None
        self.stamps: dict[str, list[int]] = {topic: [] for topic, *_ in self._streams}

    def matched(self) -> bool:
        publishers = [p for _, p, *_ in self._streams] + ([self._steps] if self._steps else [])
        return all(p.get_subscription_count() for p in publishers)

    def send(self, seconds: float) -> None:
        """Every stream at its rate."""
        start = time.monotonic()
        due = [start + i * 0.001 for i in range(len(self._streams))]
        step_due = start + 0.05
        index = 0
        while True:
            now = time.monotonic()
            if now >= start + seconds and min(due) >= start + seconds:
                return
            for i, (topic, publisher, message, hz) in enumerate(self._streams):
                while due[i] <= now and due[i] < start + seconds:
                    ns = time.time_ns()
                    message.header.stamp = to_time(ns)
                    publisher.publish(message)
                    self.stamps[topic].append(ns)
                    due[i] += 1.0 / hz
            if self._steps and now >= step_due:
                self.step(index)
                index, step_due = index + 1, step_due + 0.05
            self._next_index = index
            time.sleep(max(0.0, min(0.001, min(due) - time.monotonic())))

    def step(self, index: int, last: bool = False) -> None:
        """A Step that names the newest stamps."""
        step = Step(episode_id=EPISODE, index=index, last=last, discount=1.0)
        names = [s for s in CELL_HZ if self.stamps.get(STREAMS[s].topic)]
        step.streams, step.stamps = names, [to_time(self.stamps[STREAMS[s].topic][-1]) for s in names]
        step.rewards.tasks, step.rewards.values = list(TASKS), [0.0] * len(TASKS)
        step.header.stamp = to_time(time.time_ns())
        self._steps.publish(step)

    def last_step(self) -> None:
        self.step(self._next_index, last=True)


def main() -> None:
    group, seconds, times, out = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
    rclpy.init(args=['--ros-args', '-r', '__ns:=/cell_1'])
    node = Traffic(group, times)
    end = time.monotonic() + MATCH_S
    while not node.matched():
        if time.monotonic() > end:
            sys.exit(f'{group}: the recorder does not listen to all of it')
        time.sleep(0.05)
    print('ready', flush=True)
    sys.stdin.readline()
    node.send(seconds)
    out.write_text(json.dumps(node.stamps))
    print('done', flush=True)
    sys.stdin.readline()
    if group == 'small':
        node.last_step()
        time.sleep(1.0)
    os._exit(0)


if __name__ == '__main__':
    main()

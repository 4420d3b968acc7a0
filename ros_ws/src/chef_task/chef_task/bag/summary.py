# SPDX-License-Identifier: Apache-2.0
"""An episode's summary: collected from its messages, stored as rosbag2 `custom_data`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import numpy as np

from chef_task.bag.errors import BagError
from chef_task.messages import stamp_ns
from chef_task.records import EpisodeRecord, StepRecord

INFO, STEP, WRENCH = 'chef_msgs/msg/EpisodeInfo', 'chef_msgs/msg/Step', 'geometry_msgs/msg/WrenchStamped'
END = 1     # EpisodeInfo.event
_FORMAT = '1'


def step_record(m) -> StepRecord:
    """A chef_msgs/Step, live or from a bag, as a StepRecord."""
    return StepRecord(
        stamp=stamp_ns(m.header.stamp), index=m.index,
        stamps={name: stamp_ns(s) for name, s in zip(m.streams, m.stamps)},
        last_action=np.array(m.last_action, np.float32), action=np.array(m.action, np.float32),
        task=int(m.task), policy_version=m.policy_version,
        rewards=np.array(m.rewards.values, np.float32), discount=float(m.discount), last=bool(m.last),
    )


def _metadata(text: str) -> dict:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {'unparsed': text}


class Tally:
    """Collects an episode's summary from its messages, so that one without an END can be told as well.

    Feed it every EpisodeInfo, Step and wrench message, live or from a bag, in the order they were sent.
    """

    def __init__(self):
        self.start = self.end = None            # EpisodeInfo messages
        self.schedule: list[tuple[int, int]] = []   # (index of the first step, task) of every change of task
        self._steps = 0
        self._returns: np.ndarray | None = None
        self._last: StepRecord | None = None
        self._peak_n = 0.0

    def info(self, m) -> None:
        if m.event == END:
            self.end = m
        else:
            self.start = m

    def step(self, m) -> StepRecord:
        s = step_record(m)
        self._last = s
        self._returns = s.rewards + (0.0 if self._returns is None else self._returns)
        if not s.last:
            self._steps += 1
            if not self.schedule or self.schedule[-1][1] != s.task:
                self.schedule.append((s.index, s.task))
        return s

    def wrench(self, m) -> None:
        f = m.wrench.force
        self._peak_n = max(self._peak_n, (f.x * f.x + f.y * f.y + f.z * f.z) ** 0.5)

    def record(self, reason: str = '') -> EpisodeRecord:
        """The summary; what END says where there is one, else from the steps, ended for `reason`.

        Raises:
          BagError: no EpisodeInfo was seen: these are not an episode's messages.
        """
        first, end = self.start or self.end, self.end
        if first is None:
            raise BagError('not an episode: it has no EpisodeInfo')
        tasks = tuple(first.tasks)
        start_ns = stamp_ns(first.header.stamp)
        common = dict(
            episode_id=first.episode_id, cell=first.cell, triplet=int(first.triplet), seed=int(first.seed),
            tasks=tasks, start_ns=start_ns, metadata=_metadata((end or first).metadata or first.metadata))
        if end is not None:
            return EpisodeRecord(
                policy_version=end.policy_version, steps=int(end.steps),
                termination_reason=end.termination_reason, success=bool(end.success),
                peak_force_n=float(end.peak_force_n), returns=tuple(float(r) for r in end.returns),
                end_ns=stamp_ns(end.header.stamp), **common)
        last = self._last
        returns = np.zeros(len(tasks)) if self._returns is None else self._returns
        return EpisodeRecord(
            policy_version=last.policy_version if last else '', steps=self._steps,
            termination_reason=reason or 'unknown',
            success=False,      # only an END can tell of it
            peak_force_n=self._peak_n, returns=tuple(float(r) for r in returns),
            end_ns=last.stamp if last else start_ns, **common)


def to_custom_data(record: EpisodeRecord, schedule=()) -> dict[str, str]:
    """The record as rosbag2 custom_data: plain text where a field is text, JSON elsewhere."""
    out = {'chef_format': _FORMAT}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        out[field.name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    out['task_schedule'] = json.dumps([[int(i), int(t)] for i, t in schedule])
    return out


def from_custom_data(data: Mapping) -> EpisodeRecord:
    """The record that `to_custom_data` stored; BagError where it did not store one."""
    if not isinstance(data, Mapping) or data.get('chef_format') != _FORMAT:
        raise BagError('metadata.yaml holds no episode summary')
    try:
        values = {}
        for field in dataclasses.fields(EpisodeRecord):
            text = data[field.name]
            values[field.name] = text if field.type == 'str' else json.loads(text)
        for name in ('tasks', 'returns'):
            values[name] = tuple(values[name])
        return EpisodeRecord(**values)
    except (KeyError, TypeError, ValueError) as e:
        raise BagError(f'metadata.yaml holds a damaged episode summary: {e!r}') from e

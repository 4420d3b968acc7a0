# SPDX-License-Identifier: Apache-2.0
"""An episode's own messages (EpisodeInfo, Tick, Action, Command, Step) for bags that no graph has recorded."""

from __future__ import annotations

import numpy as np


class EpisodeMessages:
    """Makes them with the types of a rosbags typestore, as (log time, relative topic, type, message)."""

    def __init__(self, store, episode_id: str):
        self._t, self._id = store.types, episode_id

    def _time(self, ns: int):
        return self._t['builtin_interfaces/msg/Time'](ns // 1_000_000_000, ns % 1_000_000_000)

    def _header(self, ns: int):
        return self._t['std_msgs/msg/Header'](self._time(ns), '')

    def info(self, ns, event, *fields):
        *rest, returns = fields
        kind = 'chef_msgs/msg/EpisodeInfo'
        message = self._t[kind](self._header(ns), event, *rest, np.asarray(returns, np.float32))
        return ns, 'episode', kind, message

    def step(self, index, tick, stamps, last_action, action, task, version, tasks, values, last, discount):
        """Tick, Action (unless the last) and Step, as (log time, topic, type, message)."""
        t = self._t
        names, times = list(stamps), [self._time(s) for s in stamps.values()]
        oldest_ms = (tick - min(stamps.values(), default=tick)) / 1e6
        out = [('tick', 1_000_000, t['chef_msgs/msg/Tick'](
            self._header(tick), self._id, index, names, times, last_action))]
        if not last:
            out.append(('action', 6_000_000, t['chef_msgs/msg/Action'](
                self._header(tick), self._id, index, action, task, version, 4.0)))
            out.append(('command', 7_000_000, t['chef_msgs/msg/Command'](
                self._header(tick), 'episode', 1, action)))
        reward = t['chef_msgs/msg/Rewards'](list(tasks), values)
        out.append(('step', 8_000_000, t['chef_msgs/msg/Step'](
            self._header(tick), self._id, index, names, times, last_action, action, task, version, reward,
            discount, last, oldest_ms, 0.0 if last else 7.0)))
        return [(tick + late, topic, m.__msgtype__, m) for topic, late, m in out]

# SPDX-License-Identifier: Apache-2.0
"""Bags: one sealed rosbag2 folder (MCAP) an episode, the only truth about what happened.

    writer = BagWriter('run/episodes', episode_id)
    writer.write('/cell_1/wrench', 'geometry_msgs/msg/WrenchStamped', cdr_bytes, log_ns)
    path = writer.seal()

    for path in find_episodes('run'):
        episode = Episode.open(path)
        for step, samples in episode.iterate():
            ...
"""

from chef_task.bag.disk import free_bytes
from chef_task.bag.errors import AuditError, BagError
from chef_task.bag.files import find_episodes
from chef_task.bag.qos import TopicQos
from chef_task.bag.reader import Episode, Series, read_summary, recompute_rewards
from chef_task.bag.writer import BagWriter

__all__ = ['AuditError', 'BagError', 'BagWriter', 'Episode', 'Series', 'TopicQos', 'find_episodes', 'free_bytes',
           'read_summary', 'recompute_rewards']

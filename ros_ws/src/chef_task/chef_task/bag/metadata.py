# SPDX-License-Identifier: Apache-2.0
"""A bag's metadata.yaml, version 9, as rosbag2 writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from chef_task.bag.qos import TopicQos


class _Dumper(getattr(yaml, 'CSafeDumper', yaml.SafeDumper)):
    """Writes repeated values out, as rosbag2 does, instead of anchors and aliases."""

    def ignore_aliases(self, data):
        return True


def dump(value) -> str:
    """YAML text with the keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


@dataclass
class WrittenTopic:
    """A topic of a bag that is being written; channel: its number in the MCAP file."""

    channel: int
    msgtype: str
    qos: TopicQos
    type_hash: str
    count: int = 0


def information(file_name: str, topics: Mapping[str, WrittenTopic], first_ns: int, last_ns: int,
                custom_data: Mapping[str, str]) -> dict:
    """The value of `rosbag2_bagfile_information`, for a bag of one file; times are log times, ns."""
    messages = sum(t.count for t in topics.values())
    start = {'nanoseconds_since_epoch': first_ns if messages else 0}
    duration = {'nanoseconds': max(0, last_ns - first_ns)}
    return {
        'version': 9, 'storage_identifier': 'mcap', 'duration': duration, 'starting_time': start,
        'message_count': messages,
        'topics_with_message_count': [{
            'topic_metadata': {
                'name': topic, 'type': t.msgtype, 'serialization_format': 'cdr',
                'offered_qos_profiles': [t.qos.to_dict()], 'type_description_hash': t.type_hash},
            'message_count': t.count} for topic, t in topics.items()],
        'compression_format': '', 'compression_mode': '', 'relative_file_paths': [file_name],
        'files': [{'path': file_name, 'starting_time': start, 'duration': duration,
                   'message_count': messages}],
        'custom_data': dict(custom_data), 'ros_distro': 'jazzy',
    }

# SPDX-License-Identifier: Apache-2.0
"""QoS as rosbag2 stores it beside every topic, so that `ros2 bag play` offers what was offered live."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import yaml

_FOREVER = {'sec': 9223372036, 'nsec': 854775807}


@dataclass(frozen=True)
class TopicQos:
    """What a publisher offered, in rosbag2's words; deadlines and leases are always endless here."""

    reliability: str = 'reliable'      # or 'best_effort'
    durability: str = 'volatile'       # or 'transient_local'
    history: str = 'keep_last'
    depth: int = 10                    # messages

    @classmethod
    def of(cls, profile) -> TopicQos:
        """From an rclpy QoSProfile (duck-typed; discovery does not tell history and depth)."""
        unknown = ('UNKNOWN', 'SYSTEM_DEFAULT')

        def name(policy, default: str) -> str:
            return default if policy.name in unknown else policy.name.lower()

        return cls(name(profile.reliability, 'reliable'), name(profile.durability, 'volatile'),
                   name(profile.history, 'keep_last'), int(profile.depth) or 10)

    @classmethod
    def parse(cls, text: str) -> TopicQos:
        """From the YAML that a channel of a bag holds; rosbag2's defaults for what it does not tell."""
        try:
            first = yaml.safe_load(text)[0]
            known = {f.name: f for f in dataclasses.fields(cls)}
            return cls(**{k: v for k, v in first.items() if k in known and isinstance(v, type(known[k].default))})
        except (yaml.YAMLError, TypeError, KeyError, IndexError, AttributeError):
            return cls()

    def to_dict(self) -> dict:
        """The mapping that metadata version 9 holds."""
        return {
            'history': self.history, 'depth': self.depth, 'reliability': self.reliability,
            'durability': self.durability, 'deadline': dict(_FOREVER), 'lifespan': dict(_FOREVER),
            'liveliness': 'automatic', 'liveliness_lease_duration': dict(_FOREVER),
            'avoid_ros_namespace_conventions': False,
        }


SENSOR = TopicQos('best_effort', depth=5)
LATCHED = TopicQos(durability='transient_local', depth=1)

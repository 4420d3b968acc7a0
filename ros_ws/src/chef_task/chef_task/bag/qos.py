# SPDX-License-Identifier: Apache-2.0
"""QoS as rosbag2 stores it beside every topic, so that `ros2 bag play` offers what was offered live."""

from __future__ import annotations

from dataclasses import dataclass

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

# SPDX-License-Identifier: Apache-2.0
"""The QoS profiles of the graph, named once. Plain data; only `profile` needs ROS."""

from __future__ import annotations

# name: (reliable, transient local, keep-last depth)
_PROFILES = {
    # Sensors are offered reliably, so that each reader may choose: control takes what is newest, while the
    # recorder and the policy need the very samples that a Tick names. Their history is 5 s of the fastest sensor: a
    # recorder that stands still for less than that loses nothing.
    'sensor_out': (True, False, 500),
    'image_out': (True, False, 100),
    'sensor': (False, False, 5),
    'sensor_whole': (True, False, 100),
    'sensor_lockstep': (True, False, 100),   # no sample may be lost: the next tick waits for it
    'clock': (True, False, 1),
    'stream': (True, False, 10),             # ticks, actions, commands, steps
    'diagnostics': (True, False, 100),       # of all nodes on one topic; what they offer is a 'stream'
    'state': (True, True, 1),                # heartbeats and announcements that late joiners need
}


def profile(name: str, lockstep: bool = False):
    """The rclpy QoSProfile called `name`, one of the above; 'sensor' is another one in lockstep."""
    from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

    reliable, transient, depth = _PROFILES['sensor_lockstep' if name == 'sensor' and lockstep else name]
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if transient else DurabilityPolicy.VOLATILE,
    )

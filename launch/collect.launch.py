# SPDX-License-Identifier: Apache-2.0
"""Collect episodes on one cell: `ros2 launch chef_bringup collect.launch.py`, or `./chef launch` of the same.

`ros2 launch chef_bringup collect.launch.py --show-args` is the manual. The graph itself is described once, in
chef_bringup.graphs.collect; the supervisor of `./chef launch` reads the same `graph`.
"""

from chef_bringup.graphs.collect import graph


def generate_launch_description():
    """For `ros2 launch`."""
    from chef_bringup.ros_launch import launch_description

    return launch_description(graph)

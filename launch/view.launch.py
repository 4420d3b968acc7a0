# SPDX-License-Identifier: Apache-2.0
"""Look at a cell in rviz: `ros2 launch chef_bringup view.launch.py`, or `./chef launch` of the same.

Live by default, or an episode with `bag:=EPISODE`. `--show-args` is the manual; the graph itself is described
in chef_bringup.graphs.view. Without a real ROS 2 use `./chef view EPISODE`.
"""

from chef_bringup.graphs.view import graph


def generate_launch_description():
    """For `ros2 launch`."""
    from chef_bringup.ros_launch import launch_description

    return launch_description(graph)

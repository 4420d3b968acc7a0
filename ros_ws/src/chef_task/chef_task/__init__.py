# SPDX-License-Identifier: Apache-2.0
"""What an episode of RGB stacking is, with no ROS inside."""

__version__ = '0.1.0'

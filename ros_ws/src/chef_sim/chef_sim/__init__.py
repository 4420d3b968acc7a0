# SPDX-License-Identifier: Apache-2.0
"""The simulated cell: scene, physics, cameras and the device server, with no ROS inside."""

__version__ = '0.1.0'

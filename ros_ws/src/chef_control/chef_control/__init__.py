# SPDX-License-Identifier: Apache-2.0
"""The nodes of a robot cell. What each does is a plain class here; the ROS shells are in `nodes`."""

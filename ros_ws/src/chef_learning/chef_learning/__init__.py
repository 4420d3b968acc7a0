# SPDX-License-Identifier: Apache-2.0
"""Replay, networks, MPO and the learner of CHEF. Needs no ROS outside `chef_learning.nodes`."""

__version__ = '0.1.0'

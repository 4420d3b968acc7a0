# SPDX-License-Identifier: Apache-2.0
"""ROS nodes: thin shells over the plain classes of this package."""

# SPDX-License-Identifier: Apache-2.0
"""Coloured objects of known shape, found in the pictures of calibrated cameras. No ROS; docs/tracking.md."""

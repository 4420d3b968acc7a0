# SPDX-License-Identifier: Apache-2.0
"""Is this cell ready? Every device, rate, age, calibration, limit and disk, with a verdict a line. No ROS."""

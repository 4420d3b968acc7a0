# SPDX-License-Identifier: Apache-2.0
"""Rewards for `./chef bags relabel`: what may be in such a file.

    ./chef bags relabel runs/first --task docs/examples/reward_task.py:gentle_lift
"""

import numpy as np

FLOOR_M = 0.0498        # height of the basket's floor over the robot's base, m
SOFT_N = 2.0            # wrist force that still counts as gentle, N


def gentle_lift(step):
    """Red's height over the floor, 1 from 0.15 m on, halved while the wrist feels more than 2 N."""
    height = np.clip((step['red'][2] - FLOOR_M - 0.02) / 0.13, 0.0, 1.0)
    force_n = np.linalg.norm(step['samples']['wrench']['force'])
    return height if force_n <= SOFT_N else 0.5 * height


def green_alone(step):
    """1 while green is at least 0.1 m from red and from blue, across, and 0 elsewhere."""
    across = [np.linalg.norm((step['green'] - step[other])[:2]) for other in ('red', 'blue')]
    return min(across) >= 0.1

# SPDX-License-Identifier: Apache-2.0
"""What a learner learns on: tasks, actions, and how an observation becomes numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from chef_learning import encoding
from chef_learning.encoding import FeatureEncoding
from chef_task.rewards import TASKS
from chef_task.spaces import ACTION_SIZE


@dataclass(frozen=True)
class Domain:
    """Sizes of a problem. The networks and the learner know nothing else of it.

    tasks: names, in the order of a batch's returns.
    action_size: A; actions are within [-1, 1].
    encoding: makes the module that turns a batch of observations into [B, its `size`] float32.
    images: whether observations hold the images of the cell's cameras besides.
    encoding_version: of the encoding; checkpoints of another are refused.
    """

    tasks: tuple[str, ...]
    action_size: int
    encoding: Callable[[], nn.Module]
    images: bool = False
    encoding_version: int = 1


def rgb_stacking(observation: str, haptics: bool = True, tasks: tuple[str, ...] = TASKS) -> Domain:
    """The cell's: observation is 'pixels' or 'state'."""
    return Domain(tuple(tasks), ACTION_SIZE, lambda: FeatureEncoding(observation, haptics), observation == 'pixels',
                  encoding.VERSION)

# SPDX-License-Identifier: Apache-2.0
"""A policy that stacks by rule, from the objects' poses: an instrument for tests, and a yardstick for what is learned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from chef_task.rewards import MAIN_TASK, TASKS


class ScriptedPolicy:
    """Placeholder."""

    def __init__(self, seed: int = 0):
        self.version, self.task, self.needs_objects = 'scripted', TASKS.index(MAIN_TASK), True
        self.reset()

    def reset(self) -> None:
        pass

    def act(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.zeros(5, np.float32)

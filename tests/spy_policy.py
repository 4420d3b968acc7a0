# SPDX-License-Identifier: Apache-2.0
"""A user's policy, as the tests plug it in: writes down what it is given."""

from __future__ import annotations

import os

import numpy as np


class Spy:
    """Acts by a fixed pattern and saves every observation to `$CHEF_SPY/<episode>.npz`."""

    def __init__(self):
        self._episode, self._step, self._seen = -1, 0, {}

    def reset(self):
        self._save()
        self._episode, self._step, self._seen = self._episode + 1, 0, {}

    def act(self, observation):
        for key, value in observation.items():
            self._seen.setdefault(key, []).append(np.array(value))
        self._step += 1
        # Every act is saved: nothing tells a policy that its episode is over.
        self._save()
        return np.array([np.sin(self._step / 7), np.cos(self._step / 5), -0.3, 0.5, 1.0])

    def _save(self):
        if self._seen:
            np.savez(os.path.join(os.environ['CHEF_SPY'], f'{self._episode}.npz'), **self._seen)


class Invalid:
    """Answers with what no policy should."""

    def reset(self):
        pass

    def act(self, observation):
        return np.array([np.nan] * 5)

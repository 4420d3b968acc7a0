# SPDX-License-Identifier: Apache-2.0
"""Small configurations and batches that the tests share."""

import numpy as np
import pytest
import torch

from chef_learning.config import LearnerConfig
from chef_task.observation import fields_of

torch.set_num_threads(1)

SMALL = {
    'batch_size': 8, 'target_period': 5,
    'network': {'channels': [4, 8], 'blocks': 1, 'embedding': 8, 'encoder': 16, 'torso': [16], 'head': [16],
                'atoms': 11},
    'mpo': {'action_samples': 5},
    'replay': {'min_transitions': 4},
}


def small_config(observation='state', **changes):
    return LearnerConfig.from_dict({**SMALL, 'observation': observation, **changes})


def random_observation(rng, batch, observation='state', haptics=True):
    """Stacked features like those of replay, as tensors."""
    out = {}
    for key, field in fields_of(observation, haptics).items():
        if field.dtype == 'uint8':
            out[key] = torch.from_numpy(rng.integers(0, 256, (batch, *field.shape), np.uint8))
        else:
            shape = (batch, field.history, *field.shape)
            out[key] = torch.from_numpy(rng.normal(size=shape).astype(np.float32))
    return out


@pytest.fixture
def rng():
    return np.random.default_rng(0)

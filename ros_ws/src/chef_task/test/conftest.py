# SPDX-License-Identifier: Apache-2.0
"""Short synthetic episodes shared by the tests; tests that damage a bag copy it first."""

import shutil

import pytest
from hypothesis import settings

from chef_task.bag.synthetic import write_synthetic_episode

# machines that run these tests are often busy: no deadlines on a single example
settings.register_profile('chef', deadline=None, max_examples=60)
settings.load_profile('chef')

STEPS = 20


@pytest.fixture(scope='session')
def pixel_bag(tmp_path_factory):
    return write_synthetic_episode(tmp_path_factory.mktemp('pixels'), seed=1, steps=STEPS)


@pytest.fixture(scope='session')
def state_bag(tmp_path_factory):
    return write_synthetic_episode(tmp_path_factory.mktemp('state'), seed=2, steps=60, observation='state')


@pytest.fixture
def bag_copy(state_bag, tmp_path):
    """A state episode of its own, to be damaged."""
    return shutil.copytree(state_bag, tmp_path / 'run' / state_bag.name)

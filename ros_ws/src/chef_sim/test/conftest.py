# SPDX-License-Identifier: Apache-2.0
"""Worlds are shared by the tests of a module: building one takes longer than most tests."""

import pytest

from chef_sim.world import HOME, World


@pytest.fixture(scope='session')
def shared_world() -> World:
    return World(1, 'fast', seed=0)


@pytest.fixture
def world(shared_world) -> World:
    """A fast world of triplet 1 at home, its gripper open, its objects at the places of seed 0."""
    w = shared_world
    w.reset()
    w.set_arm(HOME)
    w.place(0)
    return w

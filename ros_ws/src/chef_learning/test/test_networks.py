# SPDX-License-Identifier: Apache-2.0
"""Shapes, bounds and task separation of actor and critic."""

import dataclasses

import pytest
import torch
from conftest import random_observation, small_config

from chef_learning.encoding import CLIP, FeatureEncoding
from chef_learning.networks import Actor, Critic, StackedLinear


@pytest.mark.parametrize('observation', ['state', 'pixels'])
@pytest.mark.parametrize('cameras', ['stacked', 'shared'])
@pytest.mark.parametrize('haptics', [True, False])
def test_shapes(rng, observation, cameras, haptics):
    network = dataclasses.replace(small_config().network, cameras=cameras)
    o = random_observation(rng, 4, observation, haptics)
    mean, std = Actor(network, observation, haptics, tasks=3)(o)
    assert mean.shape == std.shape == (3, 4, 5)
    assert mean.abs().max() <= 1 and std.min() > network.min_std
    critic = Critic(network, observation, haptics, tasks=3)
    assert critic(o, torch.zeros(3, 4, 7, 5)).shape == (3, 4, 7, 11)
    assert critic(o, torch.zeros(4, 5)).shape == (3, 4, 1, 11)


def test_starts_at_the_configured_std(rng):
    network = dataclasses.replace(small_config().network, initial_std=0.4)
    mean, std = Actor(network, 'state', True, tasks=6)(random_observation(rng, 16))
    assert (std - 0.4).abs().max() < 0.1 and mean.abs().max() < 0.3


def test_stacked_layers_equal_a_loop_over_tasks():
    layer = StackedLinear(3, 4, 2)
    x = torch.randn(3, 5, 4)
    loop = torch.stack([x[k] @ layer.weight[k] + layer.bias[k] for k in range(3)])
    torch.testing.assert_close(layer(x), loop)
    torch.testing.assert_close(layer(x[0]), layer(x[0].expand(3, -1, -1)))


def test_critic_takes_the_sampled_actions_one_by_one(rng):
    critic = Critic(small_config().network, 'state', True, tasks=2)
    o, actions = random_observation(rng, 3), torch.randn(2, 3, 4, 5)
    whole = critic(o, actions)
    for n in range(4):
        torch.testing.assert_close(critic(o, actions[:, :, n:n + 1]), whole[:, :, n:n + 1])
    torch.testing.assert_close(critic(o, actions.clamp(-1, 1)), whole)


def test_a_head_gets_gradient_of_its_own_task_only(rng):
    actor = Actor(small_config().network, 'state', True, tasks=3)
    mean, _ = actor(random_observation(rng, 4))
    mean[1].sum().backward()
    norms = actor.last.weight.grad.flatten(1).norm(dim=1)
    assert norms[1] > 0 and norms[0] == norms[2] == 0


def test_encoding_clips_spikes(rng):
    o = random_observation(rng, 2)
    o['wrist_force'][:] = 1e6
    encoded = FeatureEncoding('state', True)(o)
    assert encoded.max() == CLIP and torch.isfinite(encoded).all()

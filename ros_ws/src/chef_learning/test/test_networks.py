# SPDX-License-Identifier: Apache-2.0
"""Shapes, bounds and task separation of actor and critic."""

import dataclasses

import pytest
import torch
from conftest import random_observation, small_config

from chef_learning.domain import rgb_stacking
from chef_learning.encoding import CLIP, FeatureEncoding
from chef_learning.networks import Actor, Critic, StackedLinear


@pytest.mark.parametrize('observation', ['state', 'pixels'])
@pytest.mark.parametrize('cameras', ['stacked', 'shared'])
@pytest.mark.parametrize('haptics', [True, False])
def test_shapes(rng, observation, cameras, haptics):
    network = dataclasses.replace(small_config().network, cameras=cameras)
    o, domain = random_observation(rng, 4, observation, haptics), rgb_stacking(observation, haptics, 'abc')
    mean, std, logits = Actor(network, domain)(o)
    assert logits is None
    assert mean.shape == std.shape == (3, 4, 5)
    assert mean.abs().max() <= 1 and std.min() > network.min_std
    critic = Critic(network, domain)
    assert critic(o, torch.zeros(3, 4, 7, 5)).shape == (3, 4, 7, 11)
    assert critic(o, torch.zeros(4, 5)).shape == (3, 4, 1, 11)


def test_starts_at_the_configured_std(rng):
    network = dataclasses.replace(small_config().network, initial_std=0.4)
    mean, std, _ = Actor(network, rgb_stacking('state'))(random_observation(rng, 16))
    assert (std - 0.4).abs().max() < 0.1 and mean.abs().max() < 0.3


def test_stacked_layers_equal_a_loop_over_tasks():
    layer = StackedLinear(3, 4, 2)
    x = torch.randn(3, 5, 4)
    loop = torch.stack([x[k] @ layer.weight[k] + layer.bias[k] for k in range(3)])
    torch.testing.assert_close(layer(x), loop)
    torch.testing.assert_close(layer(x[0]), layer(x[0].expand(3, -1, -1)))


def test_critic_takes_the_sampled_actions_one_by_one(rng):
    critic = Critic(small_config().network, rgb_stacking('state', tasks='ab'))
    o, actions = random_observation(rng, 3), torch.randn(2, 3, 4, 5)
    whole = critic(o, actions)
    for n in range(4):
        torch.testing.assert_close(critic(o, actions[:, :, n:n + 1]), whole[:, :, n:n + 1])
    torch.testing.assert_close(critic(o, actions.clamp(-1, 1)), whole)


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_a_categorical_gripper_takes_the_place_of_the_last_gaussian(rng, observation):
    network = dataclasses.replace(small_config().network, gripper='categorical')
    p = Actor(network, rgb_stacking(observation, tasks='ab'))(random_observation(rng, 4, observation))
    assert p.mean.shape == p.std.shape == (2, 4, 4) and p.logits.shape == (2, 4, 2)
    assert (torch.softmax(p.logits, -1) - 0.5).abs().max() < 0.2      # starts undecided


@pytest.mark.parametrize('shared', [True, False])
def test_a_task_trains_its_own_head_and_only_a_shared_torso(rng, shared):
    network = dataclasses.replace(small_config().network, share_actor_torso=shared, share_critic_torso=shared)
    domain, o = rgb_stacking('state', tasks='abc'), random_observation(rng, 4)
    actor, critic = Actor(network, domain), Critic(network, domain)
    assert actor(o).mean.shape == (3, 4, 5)
    assert critic(o, torch.zeros(3, 4, 7, 5)).shape == (3, 4, 7, 11)
    for module, out in ((actor, actor(o).mean), (critic, critic(o, torch.zeros(4, 5)))):
        out[1].sum().backward()
        norms = module.last.weight.grad.flatten(1).norm(dim=1)
        assert norms[1] > 0 and norms[0] == norms[2] == 0
        if shared:
            assert module.torso.first.weight.grad.norm() > 0
        else:
            grads = [t.first.weight.grad for t in module.torso.each]
            assert grads[1].norm() > 0 and not grads[0].any() and not grads[2].any()


def test_encoding_clips_spikes(rng):
    o = random_observation(rng, 2)
    o['wrist_force'][:] = 1e6
    encoded = FeatureEncoding('state', True)(o)
    assert encoded.max() == CLIP and torch.isfinite(encoded).all()

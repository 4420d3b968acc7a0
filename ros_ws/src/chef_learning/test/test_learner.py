# SPDX-License-Identifier: Apache-2.0
"""The learner learns, resumes exactly, and refuses damaged or foreign checkpoints."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import SMALL, random_observation, small_config

from chef_learning import checkpoint
from chef_learning.learner import Learner
from chef_learning.replay import Batch


def random_batch(rng, batch=8, observation='state'):
    o, p = ({k: v.numpy() for k, v in random_observation(rng, batch, observation).items()} for _ in range(2))
    return Batch(o, rng.uniform(-1, 1, (batch, 5)).astype(np.float32),
                 rng.uniform(0, 1, (batch, 6)).astype(np.float32),
                 rng.choice([0.0, 0.95], batch).astype(np.float32), p)


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_overfits_one_batch(rng, observation):
    config = small_config(observation, discount=0.5, optimizer={'critic_rate': 3e-3, 'actor_rate': 1e-3})
    learner, batch = Learner(config), random_batch(rng, observation=observation)
    losses = [learner.step(batch)['critic_loss'] for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_actor_finds_what_is_rewarded(rng):
    """A bandit: the reward of task k falls with the distance of the x velocity from goals[k]."""
    goals = np.array([-0.6, -0.4, -0.2, 0.2, 0.4, 0.6])
    config = small_config(
        batch_size=64, discount=0.1, n_step=1, target_period=10,
        mpo={'action_samples': 20, 'epsilon_mean': 0.003, 'epsilon_std': 1e-3,
             'initial_log_temperature': -1.0, 'initial_log_alpha_mean': 0.0, 'initial_log_alpha_std': 0.0},
        optimizer={'critic_rate': 1e-2, 'actor_rate': 1e-3, 'dual_rate': 3e-2})
    learner = Learner(config)
    observation = {k: np.zeros_like(v.numpy()) for k, v in random_observation(rng, 64).items()}
    one = {k: torch.from_numpy(v[:1]) for k, v in observation.items()}

    def reward(x):
        return np.exp(-4 * (np.clip(x, -1, 1) - goals) ** 2)

    def expected_reward():
        with torch.no_grad():
            mean, std = (v[:, 0, 0].numpy() for v in learner.actor(one)[:2])
        return reward(mean + std * np.random.default_rng(0).normal(size=(500, 1))).mean(0)

    assert (expected_reward() < 0.5).all()
    for _ in range(500):
        action = rng.uniform(-1, 1, (64, 5)).astype(np.float32)
        returns = reward(action[:, :1]).astype(np.float32)
        learner.step(Batch(observation, action, returns, np.zeros(64, np.float32), observation))
    assert (expected_reward() > 0.8).all()


@pytest.mark.parametrize('algorithm', ['bc', 'crr_exp', 'crr_binary'])
@pytest.mark.parametrize('gripper', ['gaussian', 'categorical'])
def test_regression_learns_the_actions_of_the_data(rng, algorithm, gripper):
    """All of them with bc; with crr those that are worth more: the other half is the opposite action."""
    config = small_config(algorithm=algorithm, discount=0.5, n_step=1, target_period=20, mpo={'action_samples': 5},
                          regression={'beta': 0.1}, optimizer={'critic_rate': 1e-2, 'actor_rate': 1e-3},
                          network={**SMALL['network'], 'gripper': gripper})
    learner, batch = Learner(config), random_batch(rng, 32)
    good = np.tile(np.float32([0.5, -0.5, 0.2, 0.0, 0.8]), (32, 1))
    worse = np.arange(32) % 2 == 1
    action = good if algorithm == 'bc' else np.where(worse[:, None], -good, good)
    returns = np.tile(np.where(worse, 0.0, 0.9).astype(np.float32)[:, None], (1, 6))
    observation = {k: np.zeros_like(v) for k, v in batch.observation.items()}
    for _ in range(400):
        metrics = learner.step(Batch(observation, action, returns, np.zeros(32, np.float32), observation))
    p = learner.actor({k: torch.from_numpy(v[:1]) for k, v in observation.items()})
    assert np.abs(p.mean.detach().numpy()[:, 0, :4] - good[0, :4]).max() < 0.25
    if gripper == 'categorical':
        assert (torch.softmax(p.logits[:, 0], -1)[:, 1] > 0.8).all()
    assert ('critic_loss' in metrics) == (algorithm != 'bc')


def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(rng):
    learner = Learner(small_config())
    before = [p.clone() for p in learner.actor.parameters()]
    learner.critic.torso.layers[0].weight.register_hook(lambda g: g * float('nan'))
    with pytest.raises(FloatingPointError, match=r'the gradient of critic\.torso\.layers\.0\.weight is not'):
        learner.step(random_batch(rng))
    assert all(torch.equal(p, q) for p, q in zip(before, learner.actor.parameters())) and learner.updates == 0


def test_resumes_exactly(rng, tmp_path):
    config, batches = small_config(), [random_batch(rng) for _ in range(20)]
    a = Learner(config, seed=1)
    for batch in batches[:7]:
        a.step(batch)
    path = checkpoint.save(a, tmp_path)
    b = Learner(config, seed=2)
    assert checkpoint.resume(b, tmp_path) == (path, [])
    assert b.updates == 7
    for batch in batches[7:]:
        assert a.step(batch) == b.step(batch)
    assert a.batch_rng().integers(10**9) == b.batch_rng().integers(10**9) != a.batch_rng(1).integers(10**9)
    for p, q in zip(a.actor.parameters(), b.actor.parameters()):
        assert torch.equal(p, q)


def test_the_same_seed_gives_the_same_networks_and_leaves_torch_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a, b = Learner(small_config(), seed=3), Learner(small_config(), seed=3)
    assert torch.equal(torch.rand(1), expected)
    for p, q in zip(a.critic.parameters(), b.critic.parameters()):
        assert torch.equal(p, q)


def test_targets_are_copied_every_so_many_updates(rng):
    learner = Learner(small_config())   # target_period 5
    start = [p.clone() for p in learner.target_critic.parameters()]
    for _ in range(4):
        learner.step(random_batch(rng))
    assert all(torch.equal(p, q) for p, q in zip(start, learner.target_critic.parameters()))
    learner.step(random_batch(rng))
    pairs = zip(learner.critic.parameters(), learner.target_critic.parameters())
    assert all(torch.equal(p, q) for p, q in pairs)


def test_a_batch_that_is_not_finite_changes_nothing(rng):
    learner, batch = Learner(small_config(target_period=2)), random_batch(rng)
    learner.step(batch)
    parts = (learner.actor, learner.critic, learner.duals, learner.target_actor, learner.target_critic)
    before = [[p.clone() for p in part.parameters()] for part in parts]
    bad = dataclasses.replace(batch, returns=np.full_like(batch.returns, np.nan))
    with pytest.raises(FloatingPointError, match='update 2: the critic loss'):
        learner.step(bad)       # else the targets were copied after it
    assert all(torch.equal(p, q) for part, kept in zip(parts, before) for p, q in zip(kept, part.parameters()))
    assert learner.updates == 1
    learner.step(batch)         # goes on where it was
    assert not torch.equal(before[1][0], next(learner.critic.parameters()))


def test_damaged_checkpoints_fall_back_to_the_one_before(rng, tmp_path):
    learner = Learner(small_config())
    paths = []
    for _ in range(4):
        learner.step(random_batch(rng))
        paths.append(checkpoint.save(learner, tmp_path))
    assert checkpoint.checkpoints(tmp_path) == paths[-2:]       # and nothing else is left
    assert len(list(tmp_path.iterdir())) == 2
    data = bytearray(paths[-1].read_bytes())
    for damage in (data[:len(data) // 2], data[:10], b'', bytes(data[:-1]) + bytes([data[-1] ^ 1])):
        paths[-1].write_bytes(damage)
        with pytest.raises(checkpoint.CheckpointError, match=paths[-1].name):
            checkpoint.load(paths[-1])
        fresh = Learner(small_config())
        path, problems = checkpoint.resume(fresh, tmp_path)
        assert path == paths[-2] and fresh.updates == 3
        assert len(problems) == 1 and '\n' not in problems[0]


def test_a_checkpoint_of_another_network_is_refused(rng, tmp_path):
    checkpoint.save(Learner(small_config()), tmp_path)
    other = Learner(small_config(haptics=False))
    with pytest.raises(checkpoint.CheckpointError, match='haptics'):
        checkpoint.resume(other, tmp_path)
    # what is not about the networks may change
    assert checkpoint.resume(Learner(small_config(batch_size=4)), tmp_path)[0] is not None


@pytest.mark.parametrize('damage', [
    lambda s: s['actor_optimizer']['state'][0].update(exp_avg=torch.zeros(3)),
    lambda s: s['critic_optimizer']['state'][0].update(exp_avg_sq=0.5),
    lambda s: s['actor'].update({next(iter(s['actor'])): torch.zeros(0)}),
    lambda s: s['dual_optimizer'].update(state=7),
    lambda s: s.update(updates=float('inf')),
    lambda s: s.update(seed='x'),
    lambda s: s.update(generator='x'),
    lambda s: s.pop('target_critic'),
])
def test_contents_that_do_not_fit_are_refused_and_change_nothing(rng, damage):
    """Optimisers take over moments of any shape, and would fail at the next update."""
    batch = random_batch(rng)
    a, b = Learner(small_config(), seed=1), Learner(small_config(), seed=2)
    a.step(batch)
    state = a.state()
    damage(state)
    before = {k: v.clone() for k, v in b.actor.state_dict().items()}
    with pytest.raises(ValueError, match='do not fit') as error:
        b.restore(state)
    assert '\n' not in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in b.actor.state_dict().items()) and b.updates == 0
    b.step(batch)

# SPDX-License-Identifier: Apache-2.0
"""What a learner is worth by episodes it did not learn from."""

import dataclasses

import numpy as np
import pytest
import torch
from conftest import random_observation, small_config
from hypothesis import given
from hypothesis import strategies as st

from chef_learning import held_out
from chef_learning.distributions import log_prob
from chef_learning.learner import Learner
from chef_learning.replay import Batch
from chef_learning.replay_sets import check_sets, chosen


@dataclasses.dataclass
class Line:
    id: str


def random_batch(rng, size=32, tasks=6, discount=0.5):
    seen = [{k: v.numpy() for k, v in random_observation(rng, size).items()} for _ in range(2)]
    return Batch(seen[0], rng.uniform(-1, 1, (size, 5)).astype(np.float32), rng.uniform(size=(size, tasks)).astype(np.float32),
                 np.full(size, discount, np.float32), seen[1])


@given(st.integers(0, 300), st.floats(0.01, 0.9))
def test_episodes_are_held_out_or_learned_from_and_evenly_spread(count, share):
    lines = [Line(f'{k:03d}') for k in range(count)]
    out, rest = chosen(f'held_out:{share!r}', lines), chosen(f'all?+learned:{share!r}'.replace('?', ''), lines)
    assert (out ^ rest).all() and len(out) == count
    for end in range(count + 1):        # in every part of the time as large a share
        assert abs(out[:end].sum() - share * end) <= 1
    newest = chosen(f'newest:3+learned:{share!r}', lines)
    assert newest.sum() == min(3, rest.sum()) and not (newest & out).any()


@pytest.mark.parametrize('name', ['held_out:', 'held_out:0', 'learned:1', 'learned:x', 'held_out:0.1:2', 'held_out:nan'])
def test_a_share_is_a_number(name):
    with pytest.raises(ValueError, match='sets'):
        check_sets((name,), ())


def test_fitted_value_is_what_following_the_policy_returns():
    """A reward of 0.5 where the action's first dimension is positive, and as much where the gripper closes: 1 or 0 a step."""
    config = small_config(discount=0.5, target_period=8, optimizer={'critic_rate': 1e-2})

    def batches(number):
        batch = random_batch(np.random.default_rng([7, number]), 32)
        rewards = 0.5 * (batch.action[:, :1] > 0) + 0.5 * (batch.action[:, 4:] > 0)
        return dataclasses.replace(batch, returns=rewards.astype(np.float32))

    def value(first, gripper, stop=lambda: False):
        action = torch.tensor([first, 0.3, -0.2, 0.1, gripper])
        return held_out.fitted_value(lambda seen: action.expand(32, -1), batches, config, 80, 2, torch.device('cpu'), stop=stop)
    # 1 a step is 2 in all, at a discount of 0.5
    assert value(0.8, 1.0) == pytest.approx(2.0, abs=0.3) and value(-0.8, -1.0) == pytest.approx(0.0, abs=0.3)
    assert value(0.8, -1.0, stop=lambda: True) is None


def test_measuring_changes_no_learner_and_says_what_an_update_would(rng):
    learner, batch = Learner(small_config(algorithm='crr_exp'), 3), random_batch(rng)
    before = {k: str(v) for k, v in learner.state().items()}
    loss = held_out.loss_of_critic(learner, [batch, batch])
    likelihood = held_out.log_likelihood(learner, [batch])
    assert {k: str(v) for k, v in learner.state().items()} == before
    action = torch.from_numpy(batch.action).expand(6, -1, -1)[:, :, None]
    with torch.no_grad():
        expected = log_prob(action, learner.actor({k: torch.from_numpy(v) for k, v in batch.observation.items()})).mean()
    assert likelihood == pytest.approx(float(expected), rel=1e-5)
    other = Learner(small_config(algorithm='crr_exp', mpo={'action_samples': 1000}), 3)
    assert loss == pytest.approx(other.step(batch)['critic_loss'], rel=0.02)     # but for the sampled actions


def test_the_mean_of_a_policy_closes_the_gripper_where_that_is_likelier(rng):
    learner = Learner(small_config(network={**small_config().to_dict()['network'], 'gripper': 'categorical'}), 0)
    observation = random_observation(rng, 16)
    actions = held_out.mean_of(learner.actor, 2)(observation)
    policy = learner.actor(observation)
    assert actions.shape == (16, 5) and torch.equal(actions[:, :4], policy.mean[2])
    assert ((actions[:, 4] > 0) == (policy.logits[2, :, 1] > policy.logits[2, :, 0])).all() and set(actions[:, 4].abs().tolist()) == {1.0}

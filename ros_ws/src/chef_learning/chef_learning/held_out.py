# SPDX-License-Identifier: Apache-2.0
"""What a learner is worth by episodes that it did not learn from: without acting, and without changing the learner.

Shapes: K tasks, B transitions, A action dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch

from chef_learning.config import LearnerConfig
from chef_learning.critic import critic_loss, support, target_distribution
from chef_learning.distributions import draw, sample
from chef_learning.domain import rgb_stacking
from chef_learning.learner import Learner
from chef_learning.networks import Actor, Critic, Observation
from chef_learning.regression import regression_loss
from chef_learning.replay import Batch

_LOOK = 20      # batches between two questions whether to stop


@torch.no_grad()
def loss_of_critic(learner: Learner, batches: Iterable[Batch]) -> float:
    """Mean loss of its critic over tasks and batches, in nats: that of an update, with targets of its own target networks."""
    generator = torch.Generator(learner.device).manual_seed(0)      # not the learner's: nothing of it is to change
    losses, samples = [], learner.config.mpo.action_samples
    for batch in map(learner.upload, batches):
        noise = draw(len(learner.domain.tasks), len(batch.action), samples, learner.actor.gaussians, generator)
        sampled = sample(learner.target_actor(batch.next_observation), noise)
        probabilities = torch.softmax(learner.target_critic(batch.next_observation, sampled), -1)
        target = target_distribution(probabilities, batch.returns.T, batch.discounts, learner.values)
        losses.append(critic_loss(learner.critic(batch.observation, batch.action)[:, :, 0], target).mean())
    return float(torch.stack(losses).mean())


@torch.no_grad()
def log_likelihood(learner: Learner, batches: Iterable[Batch]) -> float:
    """Mean logarithm of the density of the recorded actions under its policies, over tasks and batches, in nats."""
    out = []
    for batch in map(learner.upload, batches):
        policy = learner.actor(batch.observation)
        out.append(-regression_loss(policy, batch.action, torch.ones(policy.mean.shape[:2], device=learner.device)).mean())
    return float(torch.stack(out).mean())


def fitted_value(act: Callable[[Observation], torch.Tensor], batches: Callable[[int], Batch], config: LearnerConfig,
                 updates: int, states: int, device: torch.device, seed: int = 0,
                 stop: Callable[[], bool] = lambda: False, domain=None) -> float | None:
    """What following a policy is worth in the states of a data set, by fitted Q evaluation (Le et al. 2019).

    A critic learns from the data alone what one action of the data and then those of the policy would return; then the mean of
    what it gives the policy's own actions. It is not the critic that the policy was improved with, whose errors that policy
    seeks, and of all policies the same critic judges alike, whatever their networks, discounts and algorithms.

    Args:
      act: the policy's actions [B, A] in a batch of states.
      batches: the data by number, the same for the same; one task, one step each (`n_step` 1).
      config: of the critic: its network, rate, discount and target period.
      updates: of the critic; a reward becomes known one step earlier every `target_period`.
      states: batches of states that the mean is over.
      stop: asked now and then; then None.

    Returns:
      In units of return, from 0 to 1 / (1 - discount).
    """
    domain = domain or rgb_stacking(config.observation, config.haptics, ('judged',))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic(config.network, domain).to(device)
    target = copy.deepcopy(critic).requires_grad_(False)
    values = support(config.network.atoms, config.max_return, device)
    optimizer = torch.optim.Adam(critic.parameters(), config.optimizer.critic_rate)

    def there(number: int) -> Batch:
        return batches(number).each(lambda array: torch.from_numpy(array).to(device))

    for update in range(updates):
        if update % _LOOK == 0 and stop():
            return None
        batch = there(update)
        with torch.no_grad():
            next_actions = act(batch.next_observation)[None, :, None]
            probabilities = torch.softmax(target(batch.next_observation, next_actions), -1)
            wanted = target_distribution(probabilities, batch.returns.T, batch.discounts, values)
        loss = critic_loss(critic(batch.observation, batch.action)[:, :, 0], wanted).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(critic.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        if (update + 1) % config.target_period == 0:
            target.load_state_dict(critic.state_dict())
    out = []
    with torch.no_grad():
        for number in range(updates, updates + states):
            if stop():
                return None
            observation = there(number).observation
            out.append((torch.softmax(critic(observation, act(observation)[None, :, None]), -1) @ values).mean())
    return float(torch.stack(out).mean())


def mean_of(actor: Actor, head: int) -> Callable[[Observation], torch.Tensor]:
    """A policy's actions [B, A] by the mean of one of its tasks, as a trial acts; a categorical gripper by its likelier class."""
    @torch.no_grad()
    def act(observation: Observation) -> torch.Tensor:
        policy = actor(observation)
        if policy.logits is None:
            return policy.mean[head]
        gripper = torch.where(policy.logits[head, :, 1] > policy.logits[head, :, 0], 1.0, -1.0)
        return torch.cat([policy.mean[head], gripper[:, None].to(policy.mean)], -1)
    return act

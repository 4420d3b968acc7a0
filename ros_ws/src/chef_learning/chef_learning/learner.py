# SPDX-License-Identifier: Apache-2.0
"""Multi-task MPO with a distributional critic: one update, readable from top to bottom.

    learner = Learner(LearnerConfig.load('config/learner/state.yaml'), seed=0)
    metrics = learner.step(replay.sample(learner.rng, config.batch_size, config.n_step, config.discount))

As in acme's DMPO the policy is improved in the states that the critic bootstraps from: the actions sampled
there, and what the target critic says of them, serve both losses, and no torso runs twice.
Shapes: K tasks, B transitions, N sampled actions, A action dimensions, M atoms.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch

from chef_learning.config import LearnerConfig
from chef_learning.critic import critic_loss, support, target_distribution
from chef_learning.mpo import Duals, mpo_loss, sample_actions
from chef_learning.networks import Actor, Critic
from chef_learning.replay import Batch
from chef_task.errors import one_line
from chef_task.rewards import TASKS
from chef_task.spaces import ACTION_SIZE
from chef_task.yaml_file import short


class Learner:
    """Networks, targets, duals, optimisers, and the one update of them.

    Args:
      config: see `LearnerConfig`.
      seed: of the initial weights, of the sampled actions and of `rng`.
      device: a torch device; batches are moved to it.
      tasks: names of the K tasks, in the order of the batches' returns.
      labels: names the labels that the returns are from, empty if they are as recorded; a checkpoint of
        others is not gone on with.

    Attributes:
      rng: the NumPy generator to sample batches with, so that a checkpoint resumes the batches as well.
      updates: how many were done.
    """

    def __init__(self, config: LearnerConfig, seed: int = 0, device: str = 'cpu',
                 tasks: tuple[str, ...] = TASKS, labels: str = ''):
        self.config, self.device = config, torch.device(device)
        self.tasks, self.labels = tasks, labels
        self.updates = 0
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        shape = (config.network, config.observation, config.haptics, len(tasks))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = Actor(*shape).to(self.device)
            self.critic = Critic(*shape).to(self.device)
        self.duals = Duals(config.mpo, len(tasks), ACTION_SIZE).to(self.device)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        rates = config.optimizer
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), rates.actor_rate)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), rates.critic_rate)
        self.dual_optimizer = torch.optim.Adam(self.duals.parameters(), rates.dual_rate)
        self.values = support(config.network.atoms, config.max_return, self.device)   # [M]

    def step(self, batch: Batch) -> dict[str, float]:
        """One update of critic, policy and duals.

        Returns:
          Metrics by name, averaged over the batch; those of single tasks are called `name/task`.

        Raises:
          FloatingPointError: a loss is not finite; no parameter was changed.
        """
        config = self.config
        observation = self._tensors(batch.observation)
        next_observation = self._tensors(batch.next_observation)
        action, returns, discounts = self._tensors((batch.action, batch.returns.T, batch.discounts))

        # What the target policy would do next, and what it would be worth.
        with torch.no_grad():
            target_mean, target_std = self.target_actor(next_observation)                       # [K, B, A]
            sampled = sample_actions(target_mean, target_std, config.mpo.action_samples, self.generator)
            next_logits = self.target_critic(next_observation, sampled)                         # [K, B, N, M]
            probabilities = torch.softmax(next_logits, dim=-1)
            q_values = probabilities @ self.values                                              # [K, B, N]
            target = target_distribution(probabilities, returns, discounts, self.values)        # [K, B, M]

        # Policy evaluation.
        logits = self.critic(observation, action)[:, :, 0]                                      # [K, B, M]
        losses = critic_loss(logits, target)                                                    # [K]

        # Policy improvement.
        mean, std = self.actor(next_observation)
        policy_loss, dual_loss, statistics = mpo_loss(
            mean, std, target_mean, target_std, sampled, q_values, self.duals, config.mpo)

        total = losses.mean() + policy_loss + dual_loss
        if not torch.isfinite(total):
            raise FloatingPointError(f'update {self.updates + 1}: a loss is not finite')
        for optimizer in (self.critic_optimizer, self.actor_optimizer, self.dual_optimizer):
            optimizer.zero_grad(set_to_none=True)
        total.backward()   # the three have no parameter in common
        clip = config.optimizer.clip_norm
        critic_norm = torch.nn.utils.clip_grad_norm_(self.critic.parameters(), clip)
        actor_norm = torch.nn.utils.clip_grad_norm_(self.actor.parameters(), clip)
        for optimizer in (self.critic_optimizer, self.actor_optimizer, self.dual_optimizer):
            optimizer.step()
        self.duals.clamp()

        self.updates += 1
        if self.updates % config.target_period == 0:
            self.target_actor.load_state_dict(self.actor.state_dict())
            self.target_critic.load_state_dict(self.critic.state_dict())

        statistics |= {'critic_loss': losses.detach(), 'q': q_values.mean((1, 2)), 'return': returns.mean(1)}
        metrics = {f'{name}/{task}': float(v) for name, values in statistics.items()
                   for task, v in zip(self.tasks, values.tolist())}
        means = {'critic_loss': losses.mean(), 'policy_loss': policy_loss, 'dual_loss': dual_loss,
                 'critic_gradient_norm': critic_norm, 'actor_gradient_norm': actor_norm}
        return {**{name: v.item() for name, v in means.items()}, **metrics}

    def _tensors(self, arrays: Any) -> Any:
        if isinstance(arrays, dict):
            return {k: self._tensors(v) for k, v in arrays.items()}
        if isinstance(arrays, tuple):
            return tuple(self._tensors(v) for v in arrays)
        return torch.from_numpy(np.ascontiguousarray(arrays)).to(self.device)

    def state(self) -> dict:
        """All that an exact resumption needs: tensors, numbers and JSON text."""
        return {
            'updates': self.updates,
            'config': json.dumps(self.config.to_dict(), sort_keys=True),
            'tasks': json.dumps(self.tasks), 'labels': self.labels,
            'rng': json.dumps(self.rng.bit_generator.state),
            'generator': self.generator.get_state(),
            **{name: getattr(self, name).state_dict() for name in _STATEFUL},
        }

    def restore(self, state: dict) -> None:
        """Takes over what `state` returned; learning rates stay those of this configuration.

        Raises:
          ValueError: the state is of another observation, network, tasks or labels, or incomplete; no parameter
            was changed.
        """
        try:
            there, here = json.loads(state['config']), json.loads(json.dumps(self.config.to_dict()))
            for key in ('observation', 'haptics', 'network'):
                if there[key] != here[key]:
                    raise ValueError(f'it was made with another {key}: {there[key]!r}, '
                                     f'configured is {here[key]!r}')
            # a state from before there were labels is of the six, as recorded
            others = (('tasks', tuple(json.loads(state.get('tasks', json.dumps(TASKS)))), self.tasks),
                      ('labels', state.get('labels', ''), self.labels))
            for key, made, wanted in others:
                if made != wanted:
                    raise ValueError(f'it was made with other {key}: {made!r}, configured is {wanted!r}')
            loads = {name: self._checked(name, state[name]) for name in _STATEFUL}
            if type(state['updates']) is not int or state['updates'] < 0:
                raise ValueError(f'updates is {short(state["updates"])}')
            self.rng.bit_generator.state = json.loads(state['rng'])
            self.generator.set_state(state['generator'])
            for name, values in loads.items():
                getattr(self, name).load_state_dict(values)
            self.updates = state['updates']
        except Exception as e:      # of torch's and NumPy's own checks, on a file that may hold anything
            raise ValueError(f'its contents do not fit: {one_line(e) or type(e).__name__}') from None

    def _checked(self, name: str, values: Any) -> dict:
        """What to load into one of the stateful parts, of the same keys and shapes; ValueError if it is not."""
        part = getattr(self, name)
        if not isinstance(part, torch.optim.Optimizer):
            _check_alike(values, part.state_dict(), name)
            return values
        parameters, moments = part.param_groups[0]['params'], values['state']
        if moments:     # there are none before the first update
            _check_alike(moments, {i: {'step': torch.tensor(0.0), 'exp_avg': p, 'exp_avg_sq': p}
                                   for i, p in enumerate(parameters)}, name)
        # rates and the like stay those of this configuration
        return {'state': moments, 'param_groups': part.state_dict()['param_groups']}


def _check_alike(there: Any, here: Any, where: str) -> None:
    """ValueError unless `there` is made of dicts and dense tensors as `here` is."""
    if isinstance(here, dict):
        if not isinstance(there, dict) or list(there) != list(here):
            raise ValueError(f'{where} has other entries')
        for key in here:
            _check_alike(there[key], here[key], f'{where}.{key}')
    elif (not isinstance(there, torch.Tensor) or there.shape != here.shape or there.dtype != here.dtype
          or there.layout != torch.strided or there.device.type != 'cpu'):
        raise ValueError(f'{where} is not a {here.dtype} tensor of shape {tuple(here.shape)}')


_STATEFUL = ('actor', 'critic', 'target_actor', 'target_critic', 'duals',
             'actor_optimizer', 'critic_optimizer', 'dual_optimizer')

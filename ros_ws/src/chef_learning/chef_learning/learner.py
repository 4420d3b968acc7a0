# SPDX-License-Identifier: Apache-2.0
"""Multi-task policy iteration with a distributional critic: one update, readable from top to bottom.

    learner = Learner(LearnerConfig.load('config/learner/state.yaml'), seed=0)
    metrics = learner.step(replay.sample(learner.batch_rng(), config.batch_size, config.n_step, config.discount))

As in acme's DMPO the policy is improved in the states that the critic bootstraps from: the actions sampled
there, and what the target critic says of them, serve both losses, and no torso runs twice.
Shapes: K tasks, B transitions, N sampled actions, A action dimensions, M atoms.
"""

from __future__ import annotations

import copy
import importlib.util
import json
from typing import Any

import numpy as np
import torch

from chef_learning.augment import draw_offsets, shift
from chef_learning.config import LearnerConfig, NetworkConfig
from chef_learning.critic import critic_loss, support, target_distribution
from chef_learning.distributions import Noise, draw, sample
from chef_learning.domain import Domain, rgb_stacking
from chef_learning.mpo import Duals, mpo_loss
from chef_learning.networks import Actor, Critic
from chef_learning.parallel import Parallel, device_of
from chef_learning.regression import regression_loss, regression_weights
from chef_learning.replay import Batch
from chef_learning.settings import to_dict
from chef_task.errors import one_line
from chef_task.rewards import TASKS
from chef_task.yaml_file import short


COMPILER = 'inductor'


class Learner:
    """Networks, targets, duals, optimisers, and the one update of them.

    Args:
      config: see `LearnerConfig`.
      seed: of the initial weights, of the sampled actions and of the batches.
      device: a torch device, or 'auto': a GPU if there is one; batches are moved to it.
      domain: what is learned on; RGB stacking with all six tasks if not given.
      labels: names the labels that the returns are from, empty if they are as recorded; a checkpoint of
        others is not gone on with.

    Attributes:
      updates: how many were done.
      parallel: the processes that train together; each gets its share of a batch, see `chef_learning.parallel`.
    """

    def __init__(self, config: LearnerConfig, seed: int = 0, device: str = 'cpu', domain: Domain | None = None,
                 labels: str = ''):
        self.config, self.seed, self.labels = config, seed, labels
        self.device = device_of(device)
        self.parallel = Parallel(self.device)
        self.domain = domain or rgb_stacking(config.observation, config.haptics)
        self.updates = 0
        self.generator = torch.Generator(self.device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = Actor(config.network, self.domain).to(self.device)
            self.critic = Critic(config.network, self.domain).to(self.device)
        self.duals = Duals(config.mpo, len(self.domain.tasks), self.actor.gaussians,
                           self.actor.categorical).to(self.device)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        if _compiles(config.compile, self.device):
            for module in (self.actor, self.critic, self.target_actor, self.target_critic):
                module.compile(backend=COMPILER, dynamic=False)     # in place: names of parameters stay
        rates = config.optimizer
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), rates.actor_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), rates.critic_rate, fused=True)
        self.dual_optimizer = torch.optim.Adam(self.duals.parameters(), rates.dual_rate, fused=True)
        self.values = support(config.network.atoms, config.max_return, self.device)   # [M]

    def batch_rng(self, ahead: int = 0) -> np.random.Generator:
        """What the batch of the next update is to be drawn with, or of a later one.

        A function of seed and update, so that batches may be drawn ahead of time and a resumed learner draws
        the same ones.
        """
        return np.random.default_rng([self.seed, self.updates + ahead])

    def step(self, batch: Batch) -> dict[str, float]:
        """One update of critic, policy and duals, from this process's share of a batch.

        Returns:
          Metrics by name, averaged over the batch; those of single tasks are called `name/task`.

        Raises:
          FloatingPointError: a loss or a gradient is not finite; it names which. No parameter was changed.
        """
        observation = self._shifted(self._tensors(batch.observation))
        next_observation = self._shifted(self._tensors(batch.next_observation))
        action, returns, discounts = self._tensors((batch.action, batch.returns.T, batch.discounts))

        # Half the memory traffic, with the exponent of float32: no loss needs scaling.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == 'bfloat16'):
            if self.config.algorithm == 'bc':
                losses, statistics = self._clone(observation, action)
            elif self.config.algorithm == 'mpo':
                losses, statistics = self._mpo(observation, action, returns, discounts, next_observation)
            else:
                losses, statistics = self._regress(observation, action, returns, discounts, next_observation)

        norms = self._descend(losses)
        self.updates += 1
        if self.updates % self.config.target_period == 0:
            self.target_actor.load_state_dict(self.actor.state_dict())
            self.target_critic.load_state_dict(self.critic.state_dict())

        metrics = {f'{name}/{task}': float(v) for name, values in statistics.items()
                   for task, v in zip(self.domain.tasks, values.tolist())}
        return {**{f'{k}_loss': v.item() for k, v in losses.items()}, **norms, **metrics}

    # ---- the algorithms: losses by name, and statistics [K] ---------------------------------------

    def _mpo(self, observation, action, returns, discounts, next_observation):
        target, sampled, probabilities = self._look_ahead(next_observation, self.config.mpo.action_samples)
        q_values = probabilities @ self.values                                                  # [K, B, N]
        evaluation, _ = self._evaluate(observation, action, returns, discounts, probabilities)
        policy = self.actor(next_observation)
        policy_loss, dual_loss, statistics = mpo_loss(policy, target, sampled, q_values, self.duals, self.config.mpo)
        return ({'critic': evaluation.mean(), 'policy': policy_loss, 'dual': dual_loss},
                {**statistics, 'critic_loss': evaluation.detach(), 'q': q_values.mean((1, 2)),
                 'return': returns.mean(1)})

    def _regress(self, observation, action, returns, discounts, next_observation):
        config = self.config.regression
        _, _, probabilities = self._look_ahead(next_observation, self.config.mpo.action_samples)
        evaluation, logits = self._evaluate(observation, action, returns, discounts, probabilities)
        policy = self.actor(observation)
        with torch.no_grad():
            own = sample(policy.detach(), self._noise(len(action), config.action_samples))      # [K, B, N, A]
            q_own = torch.softmax(self.critic(observation, own), -1) @ self.values              # [K, B, N]
            q = torch.softmax(logits, -1) @ self.values                                         # [K, B]
            weights = regression_weights(q, q_own, self.config.algorithm, config.beta, config.limit)
        losses = regression_loss(policy, action, weights)
        return ({'critic': evaluation.mean(), 'policy': losses.mean()},
                {'critic_loss': evaluation.detach(), 'q': q.mean(1), 'return': returns.mean(1),
                 'weight': weights.mean(1), 'std': policy.std.detach().mean((1, 2))})

    def _clone(self, observation, action):
        policy = self.actor(observation)
        losses = regression_loss(policy, action, torch.ones(policy.mean.shape[:2], device=self.device))
        return {'policy': losses.mean()}, {'std': policy.std.detach().mean((1, 2))}

    @torch.no_grad()
    def _look_ahead(self, next_observation, samples: int):
        """What the target policy would do next, and what the target critic says of it.

        Returns:
          The policy, actions [K, B, N, A] and their return's probabilities [K, B, N, M].
        """
        target = self.target_actor(next_observation)
        sampled = sample(target, self._noise(target.mean.shape[1], samples))
        return target, sampled, torch.softmax(self.target_critic(next_observation, sampled), dim=-1)

    def _evaluate(self, observation, action, returns, discounts, probabilities):
        """Policy evaluation: the critic's loss [K], and its logits [K, B, M] of the data's actions."""
        target = target_distribution(probabilities, returns, discounts, self.values)            # [K, B, M]
        logits = self.critic(observation, action)[:, :, 0]
        return critic_loss(logits, target), logits

    def _noise(self, batch: int, samples: int) -> Noise:
        whole = batch * self.parallel.size
        return draw(len(self.domain.tasks), whole, samples, self.actor.gaussians, self.generator,
                    self.parallel.share(whole))

    def _shifted(self, observation: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The observation with every image shifted at random, where that is configured."""
        pad, keys = self.config.network.shift, [k for k, v in observation.items() if v.dtype == torch.uint8]
        if not pad or not keys:
            return observation
        whole = len(observation[keys[0]]) * self.parallel.size
        offsets = draw_offsets(len(keys), whole, pad, self.generator, self.parallel.share(whole))
        return {**observation, **{k: shift(observation[k], o, pad) for k, o in zip(keys, offsets)}}

    def _descend(self, losses: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step of every optimiser whose parameters the losses depend on; the gradients' norms."""
        parts = {'actor': (self.actor, self.actor_optimizer)}
        if 'critic' in losses:
            parts['critic'] = (self.critic, self.critic_optimizer)
        if 'dual' in losses:
            parts['dual'] = (self.duals, self.dual_optimizer)
        for _, optimizer in parts.values():
            optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()   # they have no parameter in common
        # With the losses, so that all processes notice alike where one of them is not finite.
        gradients = [p.grad for module, _ in parts.values() for p in module.parameters() if p.grad is not None]
        values = {name: loss.detach() for name, loss in losses.items()}
        self.parallel.average([*values.values(), *gradients])
        for name, value in values.items():
            if not torch.isfinite(value):
                raise FloatingPointError(f'update {self.updates + 1}: the {name} loss is not finite')
        norms = {name: self._clip(name, module) for name, (module, _) in parts.items()}
        for _, optimizer in parts.values():
            optimizer.step()
        self.duals.clamp()
        return {f'{name}_gradient_norm': norm for name, norm in norms.items() if name != 'dual'}

    def _clip(self, name: str, module: torch.nn.Module) -> float:
        """Scales a module's gradient down to the largest norm that is allowed (not the duals'); its norm before."""
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            bad = next(n for n, p in module.named_parameters()
                       if p.grad is not None and not torch.isfinite(p.grad).all())
            raise FloatingPointError(f'update {self.updates + 1}: the gradient of {name}.{bad} is not finite')
        if module is not self.duals:
            torch.nn.utils.clip_grads_with_norm_(module.parameters(), self.config.optimizer.clip_norm, norm)
        return norm.item()

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
            'tasks': json.dumps(self.domain.tasks), 'labels': self.labels, 'seed': self.seed,
            'generator': self.generator.get_state(), 'device': self.device.type,
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
            for config in (there, here):    # shifts leave the networks as they are; older ones lack newer settings
                config['network'] = {**_NETWORK, **config['network'], 'shift': 0}
            for key in ('observation', 'haptics', 'network'):
                if there[key] != here[key]:
                    raise ValueError(f'it was made with another {key}: {there[key]!r}, '
                                     f'configured is {here[key]!r}')
            # a state from before there were labels is of the six, as recorded
            others = (('tasks', tuple(json.loads(state.get('tasks', json.dumps(TASKS)))), self.domain.tasks),
                      ('labels', state.get('labels', ''), self.labels))
            for key, made, wanted in others:
                if made != wanted:
                    raise ValueError(f'it was made with other {key}: {made!r}, configured is {wanted!r}')
            loads = {name: self._checked(name, state[name]) for name in _STATEFUL}
            if type(state['updates']) is not int or state['updates'] < 0:
                raise ValueError(f'updates is {short(state["updates"])}')
            seed = int(state['seed'])
            if state.get('device', self.device.type) == self.device.type:
                self.generator.set_state(state['generator'])
            else:       # another kind of generator, whose numbers cannot go on here
                self.generator.manual_seed(seed + state['updates'])
            for name, values in loads.items():
                getattr(self, name).load_state_dict(values)
            self.seed, self.updates = seed, state['updates']
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


def _compiles(setting: str, device: torch.device) -> bool:
    # without triton there is no code for a GPU
    automatic = device.type == 'cuda' and importlib.util.find_spec('triton') is not None
    return setting == 'always' or (setting == 'auto' and automatic)


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


_NETWORK = json.loads(json.dumps(to_dict(NetworkConfig())))
_STATEFUL = ('actor', 'critic', 'target_actor', 'target_critic', 'duals',
             'actor_optimizer', 'critic_optimizer', 'dual_optimizer')

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
import dataclasses
import importlib.util
import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from chef_learning import learner_state
from chef_learning.augment import draw_offsets, shift
from chef_learning.capture import Captured
from chef_learning.config import LearnerConfig
from chef_learning.critic import critic_loss, support, target_distribution
from chef_learning.distributions import Noise, draw, sample
from chef_learning.domain import Domain, rgb_stacking
from chef_learning.mpo import Duals, mpo_loss
from chef_learning.networks import Actor, Critic
from chef_learning.parallel import Parallel, device_of
from chef_learning.regression import regression_loss, regression_weights
from chef_learning.replay import Batch


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
        rates, on_gpu = config.optimizer, self.device.type == 'cuda'

        def adam(module: torch.nn.Module, rate: float) -> torch.optim.Adam:
            return torch.optim.Adam(module.parameters(), rate, fused=True, capturable=on_gpu)

        self.actor_optimizer = adam(self.actor, rates.actor_rate)
        self.critic_optimizer = adam(self.critic, rates.critic_rate)
        self.dual_optimizer = adam(self.duals, rates.dual_rate)
        self.values = support(config.network.atoms, config.max_return, self.device)   # [M]
        torch.backends.cudnn.benchmark = True       # sizes stay: worth to look for the fastest convolution
        self._upload = torch.cuda.Stream(self.device) if on_gpu else None
        self._captured = ()
        if config.capture and on_gpu and self.parallel.size == 1:
            self._captured = (Captured(self._differentiate, self.device, self.generator),
                              Captured(self._descend, self.device))

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
        b = self.upload(batch)
        differentiate, descend = self._captured or (self._differentiate, self._descend)
        names, values = differentiate(b.observation, b.action, b.returns.T, b.discounts, b.next_observation)
        metrics = dict(zip(names, values.tolist()))
        self._check(metrics)
        if self._captured and not differentiate.recorded:
            descend.forget()        # the gradients will be elsewhere
        descend()
        self.updates += 1
        if self.updates % self.config.target_period == 0:
            self.target_actor.load_state_dict(self.actor.state_dict())
            self.target_critic.load_state_dict(self.critic.state_dict())
        return {k: v for k, v in metrics.items() if k != 'dual_gradient_norm'}

    def _differentiate(self, observation, action, returns, discounts, next_observation):
        """Losses, their gradients, and all that is worth to know of them, without looking at any value.

        Returns:
          Names of the metrics, and their values, one tensor.
        """
        observation, next_observation = self._shifted(observation), self._shifted(next_observation)
        # Half the memory traffic, with the exponent of float32: no loss needs scaling.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == 'bfloat16'):
            if self.config.algorithm == 'bc':
                losses, statistics = self._clone(observation, action)
            elif self.config.algorithm == 'mpo':
                losses, statistics = self._mpo(observation, action, returns, discounts, next_observation)
            else:
                losses, statistics = self._regress(observation, action, returns, discounts, next_observation)
        self._parts = {'actor': (self.actor, self.actor_optimizer)}
        if 'critic' in losses:
            self._parts['critic'] = (self.critic, self.critic_optimizer)
        if 'dual' in losses:
            self._parts['dual'] = (self.duals, self.dual_optimizer)
        for _, optimizer in self._parts.values():
            optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()     # they have no parameter in common
        # With the losses, so that all processes notice alike where one of them is not finite.
        values = {f'{name}_loss': loss.detach() for name, loss in losses.items()}
        self.parallel.average([*values.values(),
                               *(g for module, _ in self._parts.values() for g in _gradients(module))])
        self._norms = {name: torch.nn.utils.get_total_norm(_gradients(module))
                       for name, (module, _) in self._parts.items()}
        values.update({f'{name}_gradient_norm': norm for name, norm in self._norms.items()})
        for name, of_tasks in statistics.items():
            values.update({f'{name}/{task}': v for task, v in zip(self.domain.tasks, of_tasks.unbind())})
        return tuple(values), torch.stack([v.float() for v in values.values()])

    def _check(self, metrics: dict[str, float]) -> None:
        """FloatingPointError if a loss or a gradient is not finite."""
        where = f'update {self.updates + 1}'
        for name, value in metrics.items():
            if name.endswith('_loss') and not math.isfinite(value):
                raise FloatingPointError(f'{where}: the {name.removesuffix("_loss")} loss is not finite')
        for name, (module, _) in self._parts.items():
            if not math.isfinite(metrics[f'{name}_gradient_norm']):
                bad = next((n for n, p in module.named_parameters()
                            if p.grad is not None and not torch.isfinite(p.grad).all()), 'all together')
                raise FloatingPointError(f'{where}: the gradient of {name}.{bad} is not finite')

    def _descend(self) -> None:
        """One step of every optimiser whose parameters the losses depend on."""
        for name, (module, optimizer) in self._parts.items():
            if module is not self.duals:    # at most the largest norm that is allowed
                torch.nn.utils.clip_grads_with_norm_(module.parameters(), self.config.optimizer.clip_norm,
                                                     self._norms[name])
            optimizer.step()
        self.duals.clamp()

    # ---- the algorithms: losses by name, and statistics [K] ---------------------------------------

    def _mpo(self, observation, action, returns, discounts, next_observation):
        target, sampled, probabilities, gripper_values = self._look_ahead(
            next_observation, self.config.mpo.action_samples, self.config.mpo.gripper_step == 'both')
        q_values = probabilities @ self.values                                                  # [K, B, N]
        evaluation, _ = self._evaluate(observation, action, returns, discounts, probabilities)
        policy = self.actor(next_observation)
        policy_loss, dual_loss, statistics = mpo_loss(policy, target, sampled, q_values, self.duals, self.config.mpo,
                                                      gripper_values)
        return ({'critic': evaluation.mean(), 'policy': policy_loss, 'dual': dual_loss},
                {**statistics, 'critic_loss': evaluation.detach(), 'q': q_values.mean((1, 2)),
                 'return': returns.mean(1)})

    def _regress(self, observation, action, returns, discounts, next_observation):
        config = self.config.regression
        _, _, probabilities, _ = self._look_ahead(next_observation, self.config.mpo.action_samples)
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
    def _look_ahead(self, next_observation, samples: int, both: bool = False):
        """What the target policy would do next, and what the target critic says of it.

        Args:
          both: ask it for opening and for closing of a categorical gripper with every sample.

        Returns:
          The policy, actions [K, B, N, A], their return's probabilities [K, B, N, M], and None; with `both` the
          probabilities are expectations over the gripper, and the values of opening and closing [K, B, 2] come last.
        """
        target = self.target_actor(next_observation)
        sampled = sample(target, self._noise(target.mean.shape[1], samples))
        if not both or target.logits is None:
            return target, sampled, torch.softmax(self.target_critic(next_observation, sampled), dim=-1), None
        classes = [torch.cat([sampled[..., :-1], torch.full_like(sampled[..., -1:], side)], -1) for side in (-1.0, 1.0)]
        each = torch.softmax(self.target_critic(next_observation, torch.cat(classes, 2)), dim=-1)
        each = each.unflatten(2, (2, samples))                                                  # [K, B, 2, N, M]
        chances = torch.softmax(target.logits.to(each), -1)                                     # [K, B, 2]
        return (target, sampled, (chances[..., None, None] * each).sum(2), (each @ self.values).mean(-1))

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

    def pin(self, memory: Sequence[mmap.mmap]) -> None:
        """Tells the GPU of memory that batches will be uploaded from: it then fetches them itself, several times as fast."""
        for place in memory if self._upload is not None else ():
            whole = torch.frombuffer(place, dtype=torch.uint8)
            torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(whole.data_ptr(), len(whole), 0))

    def unpin(self, memory: Sequence[mmap.mmap]) -> None:
        """Takes back what `pin` did, before the memory goes."""
        for place in memory if self._upload is not None else ():
            torch.cuda.check_error(torch.cuda.cudart().cudaHostUnregister(
                torch.frombuffer(place, dtype=torch.uint8).data_ptr()))

    def upload(self, batch: Batch, borrowed: np.ndarray | None = None) -> Batch:
        """The batch as tensors on the learner's device; `step` then need not wait for that. In any thread.

        Args:
          borrowed: bytes [n] in which all arrays of the batch lie, and which will be overwritten. They go to a GPU in
            one piece: forty small ones would keep the interpreter busy, which launches updates meanwhile.
        """
        if self._upload is None:
            return self._tensors(batch if borrowed is None else batch.copy())
        with torch.cuda.stream(self._upload):
            if borrowed is None:
                uploaded = self._tensors(batch)
            else:
                whole, begin = self._tensors(borrowed), borrowed.ctypes.data
                uploaded = batch.each(lambda a: _view(whole, a.ctypes.data - begin, a))
        self._upload.synchronize()
        return uploaded

    def _tensors(self, value: Any) -> Any:
        if isinstance(value, Batch):
            return Batch(*(self._tensors(getattr(value, f.name)) for f in dataclasses.fields(value)))
        if isinstance(value, dict):
            return {k: self._tensors(v) for k, v in value.items()}
        if isinstance(value, torch.Tensor):     # there already
            return value
        tensor = torch.from_numpy(value).to(self.device, non_blocking=True)
        if self._upload is not None:
            tensor.record_stream(torch.cuda.default_stream(self.device))     # where it will be read
        return tensor

    def state(self) -> dict:
        """All that an exact resumption needs: tensors, numbers and JSON text."""
        return learner_state.state_of(self)

    def restore(self, state: dict) -> None:
        """Takes over what `state` returned; learning rates stay those of this configuration.

        Raises:
          ValueError: the state is of another observation, network, tasks or labels, or incomplete; no parameter
            was changed.
        """
        learner_state.restore(self, state)
        for captured in self._captured:
            captured.forget()       # optimisers have other tensors now


def _view(whole: torch.Tensor, offset: int, array: np.ndarray) -> torch.Tensor:
    """The array's copy within a copy of the bytes [n] that it lies in."""
    kind = torch.from_numpy(np.empty(0, array.dtype)).dtype
    return whole[offset:offset + array.nbytes].view(kind).view(array.shape)


def _compiles(setting: str, device: torch.device) -> bool:
    # without triton there is no code for a GPU
    automatic = device.type == 'cuda' and importlib.util.find_spec('triton') is not None
    return setting == 'always' or (setting == 'auto' and automatic)


def _gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]

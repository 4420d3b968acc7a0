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
import mmap
from collections import deque
from collections.abc import Sequence

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
from chef_learning.outcome import Outcome
from chef_learning.packed import Packed, pack, views
from chef_learning.parallel import Parallel, device_of
from chef_learning.readers import Drawn
from chef_learning.regression import regression_loss, regression_weights
from chef_learning.replay import Batch


COMPILER = 'inductor'
_UNCHECKED = 1      # updates that a GPU may be at while the next is begun


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
        rates, on_gpu = config.optimizer, self.device.type == 'cuda'

        def adam(module: torch.nn.Module, rate: float) -> torch.optim.Adam:
            return torch.optim.Adam(module.parameters(), rate, fused=True, capturable=on_gpu)

        self.actor_optimizer = adam(self.actor, rates.actor_rate)
        self.critic_optimizer = adam(self.critic, rates.critic_rate)
        self.dual_optimizer = adam(self.duals, rates.dual_rate)
        self.values = support(config.network.atoms, config.max_return, self.device)   # [M]
        torch.backends.cudnn.benchmark = True       # sizes stay: worth to look for the fastest convolution
        # Set by an update that is not finite: optimisers then change nothing, so that nobody has to look at values
        # before the next update begins.
        self._stuck = torch.zeros((), device=self.device)
        for optimizer in (self.actor_optimizer, self.critic_optimizer, self.dual_optimizer):
            optimizer.found_inf = self._stuck
        self._upload = torch.cuda.Stream(self.device) if on_gpu else None
        self._losses = {'mpo': Learner._mpo, 'bc': Learner._clone}.get(config.algorithm, Learner._regress)
        # how many actions a state: of those looked ahead to, and of those that an advantage is over
        self._samples = {'mpo': (config.mpo.action_samples,), 'bc': ()}.get(
            config.algorithm, (config.mpo.action_samples, config.regression.action_samples))
        if _compiles(config.compile, self.device):
            self._losses = torch.compile(self._losses, backend=COMPILER, dynamic=False)
        self._captured, self._layout = None, None
        if config.capture and on_gpu and self.parallel.size == 1:
            self._captured = Captured(lambda whole: self._update(views(whole, self._layout)), self.device, self.generator)
        self._unchecked: deque[Outcome] = deque()

    def batch_seed(self, ahead: int = 0) -> list[int]:
        """Of what the batch of the next update is to be drawn with, or of a later one.

        A function of seed and update, so that batches may be drawn ahead of time and a resumed learner draws
        the same ones.
        """
        return [self.seed, self.updates + ahead]

    def batch_rng(self, ahead: int = 0) -> np.random.Generator:
        """A generator of that seed."""
        return np.random.default_rng(self.batch_seed(ahead))

    def step(self, batch: Batch | Packed) -> Outcome:
        """One update of critic, policy and duals, from this process's share of a batch.

        Returns:
          Its metrics. On a GPU it may still be at work; reading them waits for it.

        Raises:
          FloatingPointError: a loss or a gradient is not finite; it names which. Nothing was changed by that update,
            nor by the one that may have been begun on a GPU since: `updates` is as it was before them.
        """
        b = self.upload(batch)
        if isinstance(b, Batch):
            names, shown, values = self._update(b)
        else:
            torch.cuda.current_stream(self.device).wait_event(b.ready)
            if self._captured is None:
                names, shown, values = self._update(b.batch())
            else:
                if b.layout != self._layout:
                    self._captured.forget()
                    self._layout = b.layout
                names, shown, values = self._captured(b.whole)
        self.updates += 1
        outcome = Outcome(self.updates, names, shown, values)
        self._unchecked.append(outcome)
        self.settle(_UNCHECKED if self.device.type == 'cuda' else 0)
        if self.updates % self.config.target_period == 0:
            with torch.no_grad():
                for target, source in ((self.target_actor, self.actor), (self.target_critic, self.critic)):
                    torch._foreach_copy_(list(target.parameters()), list(source.parameters()))
        return outcome

    def settle(self, left: int = 0) -> None:
        """Waits until at most `left` updates are still at work; FloatingPointError as in `step`."""
        while len(self._unchecked) > left:
            outcome = self._unchecked.popleft()
            try:
                outcome.check()
            except FloatingPointError:
                self.updates = outcome.update - 1
                self._unchecked.clear()
                self._stuck.zero_()
                raise

    def _update(self, batch: Batch) -> tuple[tuple[str, ...], int, torch.Tensor]:
        """Losses, their gradients, and a step of every optimiser, without looking at any value.

        Returns:
          Names of the metrics, then of the parameters; how many are metrics; and the values, the parameters' being
          the norms of their gradients.
        """
        observation, next_observation = self._shifted(batch.observation), self._shifted(batch.next_observation)
        noise = [self._noise(len(batch.action), n) for n in self._samples]
        # Half the memory traffic, with the exponent of float32: no loss needs scaling.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == 'bfloat16'):
            losses, statistics = self._losses(self, observation, batch.action, batch.returns.T, batch.discounts,
                                              next_observation, noise)
        parts = {'actor': (self.actor, self.actor_optimizer)}
        if 'critic' in losses:
            parts['critic'] = (self.critic, self.critic_optimizer)
        if 'dual' in losses:
            parts['dual'] = (self.duals, self.dual_optimizer)
        for _, optimizer in parts.values():
            optimizer.zero_grad(set_to_none=True)
        sum(losses.values()).backward()     # they have no parameter in common
        # With the losses, so that all processes notice alike where one of them is not finite.
        values = {f'{name}_loss': loss.detach() for name, loss in losses.items()}
        gradients = {name: _gradients(module) for name, (module, _) in parts.items()}
        self.parallel.average([*values.values(), *(g for of in gradients.values() for g in of.values())])
        single = {name: torch.stack(torch._foreach_norm(list(of.values()))) for name, of in gradients.items()}
        norms = {name: torch.linalg.vector_norm(of) for name, of in single.items()}
        self._stuck.copy_(torch.maximum(self._stuck, 1.0 - torch.isfinite(
            torch.stack([*values.values(), *norms.values()])).all().float()))
        hidden = {}
        for name, norm in norms.items():        # that of the duals says nothing to a reader
            (hidden if name == 'dual' else values)[f'{name}_gradient_norm'] = norm
        for name, of_tasks in statistics.items():
            values.update({f'{name}/{task}': v for task, v in zip(self.domain.tasks, of_tasks.unbind())})
        for name, (module, optimizer) in parts.items():
            if module is not self.duals:    # at most the largest norm that is allowed
                torch.nn.utils.clip_grads_with_norm_(module.parameters(), self.config.optimizer.clip_norm, norms[name])
            optimizer.step()
        self.duals.clamp()
        names = (*values, *hidden, *(f'{name}.{parameter}' for name, of in gradients.items() for parameter in of))
        return names, len(values), torch.cat([torch.stack([v.float() for v in (*values.values(), *hidden.values())]),
                                              *single.values()])

    # ---- the algorithms: losses by name, and statistics [K] ---------------------------------------

    def _mpo(self, observation, action, returns, discounts, next_observation, noise):
        target, sampled, probabilities, gripper_values = self._look_ahead(
            next_observation, noise[0], self.config.mpo.gripper_step == 'both')
        q_values = probabilities @ self.values                                                  # [K, B, N]
        evaluation, _ = self._evaluate(observation, action, returns, discounts, probabilities)
        policy = self.actor(next_observation)
        policy_loss, dual_loss, statistics = mpo_loss(policy, target, sampled, q_values, self.duals, self.config.mpo,
                                                      gripper_values)
        return ({'critic': evaluation.mean(), 'policy': policy_loss, 'dual': dual_loss},
                {**statistics, 'critic_loss': evaluation.detach(), 'q': q_values.mean((1, 2)),
                 'return': returns.mean(1)})

    def _regress(self, observation, action, returns, discounts, next_observation, noise):
        config = self.config.regression
        _, _, probabilities, _ = self._look_ahead(next_observation, noise[0])
        evaluation, logits = self._evaluate(observation, action, returns, discounts, probabilities)
        policy = self.actor(observation)
        with torch.no_grad():
            own = sample(policy.detach(), noise[1])                                             # [K, B, N, A]
            q_own = torch.softmax(self.critic(observation, own), -1) @ self.values              # [K, B, N]
            q = torch.softmax(logits, -1) @ self.values                                         # [K, B]
            weights = regression_weights(q, q_own, self.config.algorithm, config.beta, config.limit)
        losses = regression_loss(policy, action, weights)
        return ({'critic': evaluation.mean(), 'policy': losses.mean()},
                {'critic_loss': evaluation.detach(), 'q': q.mean(1), 'return': returns.mean(1),
                 'weight': weights.mean(1), 'std': policy.std.detach().mean((1, 2))})

    def _clone(self, observation, action, returns, discounts, next_observation, noise):
        policy = self.actor(observation)
        losses = regression_loss(policy, action, torch.ones(policy.mean.shape[:2], device=self.device))
        return {'policy': losses.mean()}, {'std': policy.std.detach().mean((1, 2))}

    @torch.no_grad()
    def _look_ahead(self, next_observation, noise: Noise, both: bool = False):
        """What the target policy would do next, and what the target critic says of it.

        Args:
          both: ask it for opening and for closing of a categorical gripper with every sample.

        Returns:
          The policy, actions [K, B, N, A], their return's probabilities [K, B, N, M], and None; with `both` the
          probabilities are expectations over the gripper, and the values of opening and closing [K, B, 2] come last.
        """
        target = self.target_actor(next_observation)
        sampled = sample(target, noise)
        if not both or target.logits is None:
            return target, sampled, torch.softmax(self.target_critic(next_observation, sampled), dim=-1), None
        classes = [torch.cat([sampled[..., :-1], torch.full_like(sampled[..., -1:], side)], -1) for side in (-1.0, 1.0)]
        each = torch.softmax(self.target_critic(next_observation, torch.cat(classes, 2)), dim=-1)
        each = each.unflatten(2, (2, -1))                                                  # [K, B, 2, N, M]
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

    def upload(self, batch: Batch | Packed | Drawn) -> Batch | Packed:
        """The batch on the learner's device; `step` waits for what is still on its way. In any thread.

        On a GPU it comes in one piece. What a process has drawn may be overwritten once the GPU has it, and elsewhere at once.
        """
        if isinstance(batch, Packed):
            return batch
        if self._upload is None:
            return batch.batch.copy().each(torch.from_numpy) if isinstance(batch, Drawn) else batch.each(_tensor)
        borrowed, layout = (batch.bytes, batch.layout) if isinstance(batch, Drawn) else pack(batch)
        with torch.cuda.stream(self._upload):
            whole = torch.from_numpy(borrowed).to(self.device, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
        whole.record_stream(torch.cuda.default_stream(self.device))     # where it will be read
        return Packed(whole, layout, ready)

    def state(self) -> dict:
        """All that an exact resumption needs: tensors, numbers and JSON text."""
        self.settle()
        return learner_state.state_of(self)

    def restore(self, state: dict) -> None:
        """Takes over what `state` returned; learning rates stay those of this configuration.

        Raises:
          ValueError: the state is of another observation, network, tasks or labels, or incomplete; no parameter
            was changed.
        """
        learner_state.restore(self, state)
        self._unchecked.clear()
        self._stuck.zero_()
        if self._captured is not None:
            self._captured.forget()       # optimisers have other tensors now


def _tensor(value: np.ndarray | torch.Tensor) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(value)


def _compiles(setting: str, device: torch.device) -> bool:
    # without triton there is no code for a GPU
    automatic = device.type == 'cuda' and importlib.util.find_spec('triton') is not None
    return setting == 'always' or (setting == 'auto' and automatic)


def _gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}

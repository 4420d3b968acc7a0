# SPDX-License-Identifier: Apache-2.0
"""Maximum a posteriori policy optimisation, all tasks at once.

Sources: Abdolmaleki et al. 2018 (arXiv 1806.06920) for the E- and M-step, 1812.02256 for the decoupled
constraints, and the public acme library for duals, penalty and starting values.
Shapes: K tasks, B states, N sampled actions, A action dimensions, C of them Gaussian.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from chef_learning.config import MPOConfig
from chef_learning.distributions import (PolicyParameters, categorical_kl, gaussian_kl, gaussian_log_prob,
                                         gripper_log_prob)

_MIN_LOG_DUAL = -18.0
_FLOOR = 1e-8


class Duals(nn.Module):
    """The Lagrange multipliers, kept positive as softplus(x) + 1e-8.

    Temperatures [K] (of the E-step and of the out-of-bound penalty), alphas [K, C] (of the KL of mean and
    of std) and [K] (of a categorical gripper, if there is one, whose own E-step has a temperature [K]). `clamp` goes after every optimiser step: far
    below -18 a softplus has no gradient left.
    """

    def __init__(self, config: MPOConfig, tasks: int, actions: int, gripper: bool = False):
        super().__init__()
        own = gripper and config.gripper_step == 'both'

        def start(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value))
        self.log_temperature = start(config.initial_log_temperature, tasks)
        self.log_penalty_temperature = start(config.initial_log_temperature, tasks)
        self.log_alpha_mean = start(config.initial_log_alpha_mean, tasks, actions)
        self.log_alpha_std = start(config.initial_log_alpha_std, tasks, actions)
        self.log_alpha_gripper = start(config.initial_log_alpha_gripper, tasks) if gripper else None
        self.log_gripper_temperature = start(config.initial_log_temperature, tasks) if own else None

    @torch.no_grad()
    def clamp(self) -> None:
        for p in self.parameters():
            p.clamp_(min=_MIN_LOG_DUAL)


def positive(log_dual: torch.Tensor) -> torch.Tensor:
    """The multiplier that a parameter stands for."""
    return F.softplus(log_dual) + _FLOOR


def weights_and_temperature_loss(values: torch.Tensor, temperature: torch.Tensor, epsilon: float,
                                 ) -> tuple[torch.Tensor, torch.Tensor]:
    """The E-step: weights [K, B, N] (no gradient) and the temperature's dual loss [K].

    w = softmax(Q / eta); loss = eta * (epsilon + mean_s logsumexp(Q / eta) - log N).

    Args:
      values: [K, B, N], what to improve (Q, or minus a cost).
      temperature: [K].
      epsilon: KL in nats that the weights may be away from uniform.
    """
    tempered = values.detach() / temperature[:, None, None]
    loss = temperature * (epsilon + torch.logsumexp(tempered, -1).mean(-1) - math.log(values.shape[-1]))
    return torch.softmax(tempered.detach(), -1), loss


def classes_and_temperature_loss(values: torch.Tensor, logits: torch.Tensor, temperature: torch.Tensor, epsilon: float,
                                 ) -> tuple[torch.Tensor, torch.Tensor]:
    """The E-step over all classes of a categorical policy: the improved policy [K, B, G] (no gradient) and the
    temperature's dual loss [K].

    p = softmax(log pi + Q / eta); loss = eta * (epsilon + mean_s log sum_g pi_g exp(Q_g / eta)).

    Args:
      values: [K, B, G], Q of each class.
      logits: [K, B, G], of the policy.
      temperature: [K].
      epsilon: KL in nats that the improved policy may be away from the policy.
    """
    tempered = F.log_softmax(logits, -1) + values.detach() / temperature[:, None, None]
    loss = temperature * (epsilon + torch.logsumexp(tempered, -1).mean(-1))
    return torch.softmax(tempered.detach(), -1), loss


def weighted_mean(weights: torch.Tensor, log_prob: torch.Tensor) -> torch.Tensor:
    """sum_n w_n log pi(a_n), averaged over states: [K] of [K, B, N] twice."""
    return (weights * log_prob).sum(-1).mean(-1)


def mpo_loss(policy: PolicyParameters, target: PolicyParameters, actions: torch.Tensor, q_values: torch.Tensor,
             duals: Duals, config: MPOConfig, gripper_values: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Losses of policy and duals.

    Args:
      policy: the online policy, with gradient.
      target: the policy that `actions` are drawn from, without.
      actions: [K, B, N, A].
      q_values: [K, B, N], of those actions.
      gripper_values: [K, B, 2], of opening and closing; `q_values` are then expectations over the gripper. Without
        them a categorical gripper learns from the classes that were sampled (Neunert et al. 2020). A step of a slow
        gripper changes a return by so little that among samples it is lost in what the other dimensions do to it.

    Returns:
      The loss of the policy and the loss of the duals, scalars, each averaged over tasks; and statistics,
      [K] each, without gradient. The gradients of the two losses do not overlap.
    """
    mean, std, target_mean, target_std = policy.mean, policy.std, target.mean, target.std
    weights, loss_temperature = weights_and_temperature_loss(
        q_values, positive(duals.log_temperature), config.epsilon)
    entropy = -(weights * torch.log(weights + 1e-12)).sum(-1).mean(-1)
    excess = torch.linalg.vector_norm(actions - actions.clamp(-1.0, 1.0), dim=-1)
    penalty, loss_penalty = weights_and_temperature_loss(
        -excess, positive(duals.log_penalty_temperature), config.epsilon_penalty)
    weights = weights + penalty

    # decoupled: the mean moves at the target's std, the std at the target's mean
    likelihood = (weighted_mean(weights, gaussian_log_prob(actions, mean, target_std))
                  + weighted_mean(weights, gaussian_log_prob(actions, target_mean, std)))
    kl_mean = gaussian_kl(target_mean, target_std, mean, target_std).mean(1)   # [K, C]
    kl_std = gaussian_kl(target_mean, target_std, target_mean, std).mean(1)
    alpha_mean, alpha_std = positive(duals.log_alpha_mean), positive(duals.log_alpha_std)
    loss = -likelihood + (alpha_mean.detach() * kl_mean + alpha_std.detach() * kl_std).sum(-1)
    loss_alpha = (alpha_mean * (config.epsilon_mean - kl_mean.detach())
                  + alpha_std * (config.epsilon_std - kl_std.detach())).sum(-1)
    statistics = {
        'kl_mean': kl_mean.detach().sum(-1),
        'kl_std': kl_std.detach().sum(-1),
        'temperature': positive(duals.log_temperature).detach(),
        # KL of the weights from uniform; epsilon once the temperature has settled
        'kl_weights': math.log(q_values.shape[-1]) - entropy,
        'out_of_bounds': (excess > 0).float().mean((1, 2)),
        'std': std.detach().mean((1, 2)),
    }
    if policy.logits is not None:   # a third factor with a trust region of its own
        kl_gripper = categorical_kl(target.logits, policy.logits).mean(1)      # [K]
        alpha = positive(duals.log_alpha_gripper)
        if gripper_values is None:
            gripper_likelihood = weighted_mean(weights, gripper_log_prob(actions, policy.logits))
        else:
            improved, loss_classes = classes_and_temperature_loss(
                gripper_values, target.logits, positive(duals.log_gripper_temperature), config.epsilon_gripper_step)
            gripper_likelihood = weighted_mean(improved, F.log_softmax(policy.logits, -1))
            loss_temperature = loss_temperature + loss_classes
            statistics['gripper_temperature'] = positive(duals.log_gripper_temperature).detach()
            statistics['gripper_advantage'] = (gripper_values[..., 1] - gripper_values[..., 0]).abs().mean(1)
        loss = loss - gripper_likelihood + alpha.detach() * kl_gripper
        loss_alpha = loss_alpha + alpha * (config.epsilon_gripper - kl_gripper.detach())
        statistics['kl_gripper'] = kl_gripper.detach()
        statistics['closing'] = torch.softmax(policy.logits.detach(), -1)[..., 1].mean(1)
    return loss.mean(), (loss_temperature + loss_penalty + loss_alpha).mean(), statistics

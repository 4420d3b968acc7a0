# SPDX-License-Identifier: Apache-2.0
"""Maximum a posteriori policy optimisation, all tasks at once.

Sources: Abdolmaleki et al. 2018 (arXiv 1806.06920) for the E- and M-step, 1812.02256 for the decoupled
constraints, and the public acme library for duals, penalty and starting values.
Shapes: K tasks, B states, N sampled actions, A action dimensions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from chef_learning.config import MPOConfig

_MIN_LOG_DUAL = -18.0
_FLOOR = 1e-8
_LOG_2PI = math.log(2 * math.pi)


class Duals(nn.Module):
    """The Lagrange multipliers, kept positive as softplus(x) + 1e-8.

    Temperatures [K] (of the E-step and of the out-of-bound penalty), alphas [K, A] (of the KL of mean and
    of std). `clamp` goes after every optimiser step: far below -18 a softplus has no gradient left.
    """

    def __init__(self, config: MPOConfig, tasks: int, actions: int):
        super().__init__()
        def start(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value))
        self.log_temperature = start(config.initial_log_temperature, tasks)
        self.log_penalty_temperature = start(config.initial_log_temperature, tasks)
        self.log_alpha_mean = start(config.initial_log_alpha_mean, tasks, actions)
        self.log_alpha_std = start(config.initial_log_alpha_std, tasks, actions)

    @torch.no_grad()
    def clamp(self) -> None:
        for p in self.parameters():
            p.clamp_(min=_MIN_LOG_DUAL)


def positive(log_dual: torch.Tensor) -> torch.Tensor:
    """The multiplier that a parameter stands for."""
    return F.softplus(log_dual) + _FLOOR


def sample_actions(mean: torch.Tensor, std: torch.Tensor, samples: int,
                   generator: torch.Generator | None = None) -> torch.Tensor:
    """Actions [K, B, N, A] of the Gaussians [K, B, A]; not clipped, so that the penalty sees the excess."""
    shape = (*mean.shape[:2], samples, mean.shape[2])
    noise = torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean[:, :, None] + std[:, :, None] * noise


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


def gaussian_kl(mean_p, std_p, mean_q, std_q) -> torch.Tensor:
    """KL(p || q) in nats per dimension, any shapes that broadcast."""
    ratio = (std_p / std_q) ** 2
    return 0.5 * (ratio + ((mean_q - mean_p) / std_q) ** 2 - 1.0 - torch.log(ratio))


def weighted_log_likelihood(weights, actions, mean, std) -> torch.Tensor:
    """sum_n w_n log N(a_n; mean, std), averaged over states: [K] of [K, B, N], [K, B, N, A], [K, B, A]."""
    z = (actions - mean[:, :, None]) / std[:, :, None]
    constant = torch.log(std).sum(-1)[:, :, None] + 0.5 * mean.shape[-1] * _LOG_2PI
    return (weights * (-0.5 * (z * z).sum(-1) - constant)).sum(-1).mean(-1)


def mpo_loss(mean, std, target_mean, target_std, actions, q_values, duals: Duals, config: MPOConfig,
             ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Losses of policy and duals.

    Args:
      mean, std: [K, B, A], the online policy, with gradient.
      target_mean, target_std: [K, B, A], the policy that `actions` are drawn from, without.
      actions: [K, B, N, A].
      q_values: [K, B, N], of those actions.

    Returns:
      The loss of the policy and the loss of the duals, scalars, each averaged over tasks; and statistics,
      [K] each, without gradient. The gradients of the two losses do not overlap.
    """
    weights, loss_temperature = weights_and_temperature_loss(
        q_values, positive(duals.log_temperature), config.epsilon)
    entropy = -(weights * torch.log(weights + 1e-12)).sum(-1).mean(-1)
    excess = torch.linalg.vector_norm(actions - actions.clamp(-1.0, 1.0), dim=-1)
    penalty, loss_penalty = weights_and_temperature_loss(
        -excess, positive(duals.log_penalty_temperature), config.epsilon_penalty)
    weights = weights + penalty

    # decoupled: the mean moves at the target's std, the std at the target's mean
    likelihood = (weighted_log_likelihood(weights, actions, mean, target_std)
                  + weighted_log_likelihood(weights, actions, target_mean, std))
    kl_mean = gaussian_kl(target_mean, target_std, mean, target_std).mean(1)   # [K, A]
    kl_std = gaussian_kl(target_mean, target_std, target_mean, std).mean(1)
    alpha_mean, alpha_std = positive(duals.log_alpha_mean), positive(duals.log_alpha_std)
    policy = -likelihood + (alpha_mean.detach() * kl_mean + alpha_std.detach() * kl_std).sum(-1)
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
    return policy.mean(), (loss_temperature + loss_penalty + loss_alpha).mean(), statistics

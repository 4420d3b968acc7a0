# SPDX-License-Identifier: Apache-2.0
"""The distributional critic's target and loss (Bellemare et al. 2017; as acme's DMPO uses it).

Shapes: K tasks, B transitions, N sampled next actions, M atoms.
"""

from __future__ import annotations

import torch


def support(atoms: int, max_return: float, device=None) -> torch.Tensor:
    """Values of the atoms, [M]: evenly from 0 to max_return, as rewards are in [0, 1]."""
    return torch.linspace(0.0, max_return, atoms, device=device)


def project(probabilities: torch.Tensor, returns: torch.Tensor, discounts: torch.Tensor,
            values: torch.Tensor) -> torch.Tensor:
    """L2 projection of the distribution of returns + discounts * z onto the evenly spaced atoms z.

    Every atom's probability is split between its two nearest atoms, by distance, with scatter_add: the
    dense form costs M times as much.

    Args:
      probabilities: [K, B, M], of the next return.
      returns: [K, B], n-step sums of rewards.
      discounts: [B], gamma^n, or 0 after a termination.
      values: [M], ascending and even.

    Returns:
      [K, B, M]; sums to what `probabilities` sums to. What falls outside counts at the nearest end.
    """
    last = values.shape[0] - 1
    shifted = returns[..., None] + discounts[:, None] * values
    position = ((shifted - values[0]) * (last / (values[-1] - values[0]))).clamp(0, last)
    lower = position.floor()
    upper_share = position - lower
    # clamped, as NaN has no index; it stays in the share, and the learner finds it in the loss
    lower = lower.long().clamp_(0, last)
    upper = (lower + 1).clamp(max=last)
    out = torch.zeros_like(probabilities)
    out.scatter_add_(-1, lower, probabilities * (1 - upper_share))
    return out.scatter_add_(-1, upper, probabilities * upper_share)


def target_distribution(next_probabilities: torch.Tensor, returns: torch.Tensor, discounts: torch.Tensor,
                        values: torch.Tensor) -> torch.Tensor:
    """The n-step target, [K, B, M]: the mixture over the N next actions, shifted and projected.

    Args:
      next_probabilities: [K, B, N, M], target critic at the last state, actions of the target policy.
      returns, discounts, values: see `project`.
    """
    return project(next_probabilities.mean(dim=2), returns, discounts, values)


def critic_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats, [K]: logits [K, B, M] against target [K, B, M]."""
    return -(target * torch.log_softmax(logits, dim=-1)).sum(-1).mean(-1)

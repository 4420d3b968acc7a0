# SPDX-License-Identifier: Apache-2.0
"""Learning the actions of the data: behaviour cloning, and critic regularised regression.

Source: Wang et al. 2020 (arXiv 2006.15134), with the public acme library's starting values.
Shapes: K tasks, B transitions, N sampled actions, A action dimensions.
"""

from __future__ import annotations

import torch

from chef_learning.distributions import PolicyParameters, log_prob


def regression_weights(q: torch.Tensor, q_sampled: torch.Tensor, kind: str, beta: float, limit: float) -> torch.Tensor:
    """How much an action of the data is to be imitated, [K, B], from its advantage q - mean_n q_sampled.

    Args:
      q: [K, B], of the action of the data. q_sampled: [K, B, N], of actions of the policy.
      kind: 'crr_exp': min(exp(advantage / beta), limit); 'crr_binary': 1 where the advantage is positive.
    """
    advantage = q - q_sampled.mean(-1)
    if kind == 'crr_binary':
        return (advantage > 0).to(q)
    return torch.exp(advantage / beta).clamp(max=limit)


def regression_loss(policy: PolicyParameters, actions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """-mean(w log pi(a | s)), [K]: policy at the states of the data, actions [B, A], weights [K, B]."""
    each = log_prob(actions.expand(weights.shape[0], -1, -1)[:, :, None], policy)[:, :, 0]
    return -(weights * each).mean(-1)

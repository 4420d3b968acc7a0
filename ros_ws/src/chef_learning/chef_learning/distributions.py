# SPDX-License-Identifier: Apache-2.0
"""The policy's distribution over actions: Gaussian, or Gaussian with a two-way categorical gripper.

The hybrid follows Neunert et al. 2020 (arXiv 2001.00449): independent factors, each with a trust region of
its own. The gripper is the action's last dimension; its classes stand for -1 (open) and 1 (close).
Shapes: K tasks, B states, N sampled actions, A action dimensions, C of them Gaussian (A, or A - 1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

_LOG_2PI = math.log(2 * math.pi)


class PolicyParameters(NamedTuple):
    """mean, std: [K, B, C]. logits: [K, B, 2] of opening and closing the gripper, or None."""

    mean: torch.Tensor
    std: torch.Tensor
    logits: torch.Tensor | None = None

    def detach(self) -> PolicyParameters:
        return PolicyParameters(*(None if x is None else x.detach() for x in self))


class Noise(NamedTuple):
    """What actions are made of: normal [K, B, N, C], and uniform [K, B, N] in [0, 1) for the gripper."""

    normal: torch.Tensor
    uniform: torch.Tensor


def draw(tasks: int, batch: int, samples: int, gaussians: int, generator: torch.Generator,
         part: slice = slice(None)) -> Noise:
    """Noise for a batch, or for the part of it that this process works on: the whole is drawn everywhere."""
    device, shape = generator.device, (tasks, batch, samples)
    return Noise(torch.randn((*shape, gaussians), generator=generator, device=device)[:, part],
                 torch.rand(shape, generator=generator, device=device)[:, part])


def sample(p: PolicyParameters, noise: Noise) -> torch.Tensor:
    """Actions [K, B, N, A]; not clipped, so that an out-of-bound penalty sees the excess."""
    continuous = p.mean[:, :, None] + p.std[:, :, None] * noise.normal
    if p.logits is None:
        return continuous
    closing = torch.softmax(p.logits, -1)[:, :, None, 1]                              # [K, B, 1]
    gripper = torch.where(noise.uniform < closing, 1.0, -1.0).to(continuous)
    return torch.cat([continuous, gripper[..., None]], -1)


def gaussian_log_prob(actions: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """[K, B, N] of actions [K, B, N, A or C] and mean, std [K, B, C]; further dimensions are left out."""
    z = (actions[..., :mean.shape[-1]] - mean[:, :, None]) / std[:, :, None]
    constant = torch.log(std).sum(-1)[:, :, None] + 0.5 * mean.shape[-1] * _LOG_2PI
    return -0.5 * (z * z).sum(-1) - constant


def gripper_log_prob(actions: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """[K, B, N] of the class that the sign of the last dimension of actions [K, B, N, A] stands for."""
    log_p = F.log_softmax(logits, -1)[:, :, None]                                     # [K, B, 1, 2]
    return torch.where(actions[..., -1] > 0, log_p[..., 1], log_p[..., 0])


def log_prob(actions: torch.Tensor, p: PolicyParameters) -> torch.Tensor:
    """[K, B, N] of actions [K, B, N, A] under the whole policy."""
    out = gaussian_log_prob(actions, p.mean, p.std)
    return out if p.logits is None else out + gripper_log_prob(actions, p.logits)


def gaussian_kl(mean_p, std_p, mean_q, std_q) -> torch.Tensor:
    """KL(p || q) in nats per dimension, any shapes that broadcast."""
    ratio = (std_p / std_q) ** 2
    return 0.5 * (ratio + ((mean_q - mean_p) / std_q) ** 2 - 1.0 - torch.log(ratio))


def categorical_kl(logits_p: torch.Tensor, logits_q: torch.Tensor) -> torch.Tensor:
    """KL(p || q) in nats, over the last axis."""
    log_p, log_q = F.log_softmax(logits_p, -1), F.log_softmax(logits_q, -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)

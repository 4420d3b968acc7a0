# SPDX-License-Identifier: Apache-2.0
"""Actor and critic: a torso shared over tasks and one MLP head per task (CHEF paper, section VI.C).

Shapes: B states, K tasks, N actions per state, A action dimensions, C of them Gaussian, M atoms. All heads are computed at
once: their weights are stacked [K, in, out] and the task is the leading axis of what they return.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from chef_learning.config import NetworkConfig
from chef_learning.distributions import PolicyParameters
from chef_learning.domain import Domain
from chef_task.spaces import CAMERAS, IMAGE_SHAPE

Observation = dict[str, torch.Tensor]   # key -> [B, history, size] float32, or [B, H, W, 3] uint8


class ResidualGroup(nn.Module):
    """Convolution, 3x3 max-pooling by 2, then residual blocks (Espeholt et al. 2018, IMPALA)."""

    def __init__(self, inputs: int, outputs: int, blocks: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(outputs, outputs, 3, padding=1) for _ in range(2)])
            for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(self.first(x), 3, stride=2, padding=1)
        for a, b in self.blocks:
            x = x + b(F.relu(a(F.relu(x))))
        return x


class ImageTorso(nn.Module):
    """Images of all cameras, [B, H, W, 3] uint8 each, to [B, self.size]."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.keys = tuple(f'image_{c}' for c in CAMERAS)
        self.stacked = config.cameras == 'stacked'
        views = 1 if self.stacked else len(self.keys)
        channels = (IMAGE_SHAPE[2] * len(self.keys) // views, *config.channels)
        self.groups = nn.ModuleList(
            ResidualGroup(i, o, config.blocks) for i, o in zip(channels, channels[1:]))
        # on a CPU a third faster than the default, and what the images are in already
        self.groups.to(memory_format=torch.channels_last)
        shrink = 2 ** len(config.channels)
        pixels = math.ceil(IMAGE_SHAPE[0] / shrink) * math.ceil(IMAGE_SHAPE[1] / shrink)
        self.embed = nn.Linear(pixels * channels[-1], config.embedding)
        self.norm = nn.LayerNorm(config.embedding)
        self.size = config.embedding * views

    def forward(self, observation: Observation) -> torch.Tensor:
        images = [observation[k] for k in self.keys]
        batch = images[0].shape[0]
        # uint8 until the last moment: a quarter of the memory traffic
        x = torch.cat(images, dim=3 if self.stacked else 0).permute(0, 3, 1, 2)
        x = x.float().mul_(1 / 255.0).sub_(0.5)
        for group in self.groups:
            x = group(x)
        x = torch.tanh(self.norm(self.embed(F.relu(x).flatten(1))))
        return x if self.stacked else x.view(-1, batch, x.shape[1]).transpose(0, 1).flatten(1)


class Torso(nn.Module):
    """An observation to features, [B, self.size].

    The features pass a layer with layer norm and tanh, which bounds them (as in the public policies for
    this benchmark); image embeddings join them before the ELU layers.
    """

    def __init__(self, config: NetworkConfig, domain: Domain):
        super().__init__()
        self.encoding = domain.encoding()
        self.first = nn.Linear(self.encoding.size, config.encoder)
        self.norm = nn.LayerNorm(config.encoder)
        self.images = ImageTorso(config) if domain.images else None
        sizes = (config.encoder + (self.images.size if self.images else 0), *config.torso)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, sizes[1:]))
        self.size = sizes[-1]

    def forward(self, observation: Observation) -> torch.Tensor:
        x = torch.tanh(self.norm(self.first(self.encoding(observation))))
        if self.images is not None:
            x = torch.cat([x, self.images(observation)], dim=1)
        for layer in self.layers:
            x = F.elu(layer(x))
        return x


class Torsos(nn.Module):
    """A torso for each task, to compare with a shared one: [K, B, self.size]."""

    def __init__(self, config: NetworkConfig, domain: Domain):
        super().__init__()
        self.each = nn.ModuleList(Torso(config, domain) for _ in domain.tasks)
        self.size = self.each[0].size

    def forward(self, observation: Observation) -> torch.Tensor:
        return torch.stack([torso(observation) for torso in self.each])


class StackedLinear(nn.Module):
    """K linear layers as one batched product: [B, in] or [K, B, in] to [K, B, out]."""

    def __init__(self, tasks: int, inputs: int, outputs: int, bias: bool = True):
        super().__init__()
        bound = 1 / math.sqrt(inputs)   # of nn.Linear
        self.weight = nn.Parameter(torch.empty(tasks, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(tasks, 1, outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.bias is None:
            return torch.matmul(x, self.weight)
        if x.dim() == 3:
            return torch.baddbmm(self.bias, x, self.weight)
        return torch.matmul(x, self.weight) + self.bias


class Actor(nn.Module):
    """A policy per task: Gaussian with mean tanh and standard deviation softplus + min_std, both [K, B, C],
    and the gripper's logits [K, B, 2] where it is categorical (then C is A - 1, else A)."""

    def __init__(self, config: NetworkConfig, domain: Domain):
        super().__init__()
        tasks, self.min_std = len(domain.tasks), config.min_std
        self.categorical = config.gripper == 'categorical'
        self.gaussians = domain.action_size - self.categorical
        self.torso = (Torso if config.share_actor_torso else Torsos)(config, domain)
        sizes = (self.torso.size, *config.head)
        self.layers = nn.ModuleList(StackedLinear(tasks, i, o) for i, o in zip(sizes, sizes[1:]))
        self.last = StackedLinear(tasks, sizes[-1], 2 * self.gaussians + 2 * self.categorical)
        with torch.no_grad():
            # start near zero mean and the configured std, whatever is seen
            self.last.weight.mul_(0.1)
            self.last.bias.zero_()
            self.last.bias[..., self.gaussians:2 * self.gaussians] = _inverse_softplus(config.initial_std)

    def forward(self, observation: Observation) -> PolicyParameters:
        x = self.torso(observation)
        for layer in self.layers:
            x = F.elu(layer(x))
        x = self.last(x)
        mean, std, logits = x.split([self.gaussians, self.gaussians, 2 * self.categorical], dim=-1)
        return PolicyParameters(torch.tanh(mean), F.softplus(std) + self.min_std,
                                logits if self.categorical else None)


class Critic(nn.Module):
    """A categorical distribution of the return, per task, state and action: logits [K, B, N, M].

    A head's first layer is a sum of one product with the state's features and one with the action, so
    that the former is computed once per state and not once per sampled action.
    """

    def __init__(self, config: NetworkConfig, domain: Domain):
        super().__init__()
        tasks = len(domain.tasks)
        self.torso = (Torso if config.share_critic_torso else Torsos)(config, domain)
        hidden = config.head or (self.torso.size,)
        self.state = StackedLinear(tasks, self.torso.size, hidden[0])
        self.action = StackedLinear(tasks, domain.action_size, hidden[0], bias=False)
        self.layers = nn.ModuleList(StackedLinear(tasks, i, o) for i, o in zip(hidden, hidden[1:]))
        self.last = StackedLinear(tasks, hidden[-1], config.atoms)

    def forward(self, observation: Observation, actions: torch.Tensor) -> torch.Tensor:
        """Logits [K, B, N, M].

        Args:
          actions: [K, B, N, A], or [B, A] for the same action for every task (then N is 1). Those
            outside [-1, 1] count as the nearest inside, which is what the robot would do.
        """
        x = self.torso(observation)
        if actions.dim() == 2:
            actions = actions[None, :, None].expand(self.state.weight.shape[0], -1, -1, -1)
        tasks, batch, samples, _ = actions.shape
        hidden = self.action(actions.clamp(-1.0, 1.0).reshape(tasks, batch * samples, -1))
        hidden = hidden.view(tasks, batch, samples, -1) + self.state(x)[:, :, None]
        hidden = F.elu(hidden, inplace=True).view(tasks, batch * samples, -1)
        for layer in self.layers:
            hidden = F.elu(layer(hidden))
        return self.last(hidden).view(tasks, batch, samples, -1)


def _inverse_softplus(x: float) -> float:
    return x + math.log(-math.expm1(-x))

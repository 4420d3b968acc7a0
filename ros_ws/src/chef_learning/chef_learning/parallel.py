# SPDX-License-Identifier: Apache-2.0
"""Data parallel training: several processes, one share of every batch each (torchrun sets the environment)."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

# a process that died is noticed by the others after this
TIMEOUT = timedelta(minutes=5)


class Parallel:
    """This process among those that train together; alone if torchrun did not start it.

    Attributes:
      rank: 0 .. size - 1. The first one writes what is written.
      size: how many there are.
    """

    def __init__(self, device: torch.device):
        self.rank, self.size = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group('nccl' if device.type == 'cuda' else 'gloo', timeout=TIMEOUT)

    def share(self, batch_size: int) -> slice:
        """Which part of a batch is this process's; ValueError if it cannot be shared evenly."""
        if batch_size % self.size:
            raise ValueError(f'batch_size: {batch_size} transitions cannot be shared evenly by {self.size} processes')
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def average(self, tensors: list[torch.Tensor]) -> None:
        """Replaces each by its mean over all processes, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([t.detach().reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors])):
            tensor.copy_(mean.view_as(tensor))

    def close(self) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

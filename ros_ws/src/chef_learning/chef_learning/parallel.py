# SPDX-License-Identifier: Apache-2.0
"""Data parallel training: several processes, one share of every batch each (`chef train --processes`, torchrun).

Whoever starts them sets RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in their environments.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

# a process that hangs is noticed by the others after this; one that died, at once
TIMEOUT = timedelta(minutes=5)


class ParallelError(Exception):
    """The processes cannot go on together; the text is one line."""


def world_size() -> int:
    """How many processes train together, 1 if nobody said."""
    return int(os.environ.get('WORLD_SIZE', 1))


def process_rank() -> int:
    """Which of them this is, from 0 on."""
    return int(os.environ.get('RANK', 0))


def device_of(name: str) -> torch.device:
    """A torch device by name; 'auto' is this process's GPU if there are any, else the CPU."""
    if name != 'auto':
        return torch.device(name)
    return torch.device('cuda', int(os.environ.get('LOCAL_RANK', 0))) if torch.cuda.is_available() \
        else torch.device('cpu')


class Parallel:
    """This process among those that train together; alone if none was started with it.

    Every method but `share` is called by all of them alike, and waits for all.

    Attributes:
      rank: 0 .. size - 1. The first one writes what is written.
      size: how many there are.

    Raises:
      ParallelError: not all came, or one is gone.
    """

    def __init__(self, device: torch.device):
        self.rank, self.size, self._device = process_rank(), world_size(), device
        if self.size > 1 and not dist.is_initialized():
            if device.type == 'cuda':
                torch.cuda.set_device(device)
            backend = 'nccl' if device.type == 'cuda' else 'gloo'
            _together(lambda: dist.init_process_group(backend, timeout=TIMEOUT))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

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
        _together(lambda: dist.all_reduce(flat))
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors])):
            tensor.copy_(mean.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether it is true in any of them; also what they wait for each other with."""
        return self._largest([int(flag)])[0] > 0

    def same(self, number: int) -> bool:
        """Whether all of them have the same number."""
        high, low = self._largest([number, -number])
        return high == -low

    def _largest(self, numbers: list[int]) -> list[int]:
        if self.size == 1:
            return numbers
        values = torch.tensor(numbers, dtype=torch.int64, device=self._device)
        _together(lambda: dist.all_reduce(values, dist.ReduceOp.MAX))
        return values.tolist()

    def close(self) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def _together(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except (RuntimeError, ValueError) as e:     # of torch.distributed, and what its back ends and stores raise
        cause = (str(e).splitlines() or [type(e).__name__])[0]
        raise ParallelError(f'the processes that train together lost each other: {cause}') from None

# SPDX-License-Identifier: Apache-2.0
"""What an update says of itself, read when somebody asks: a GPU need not be waited for until then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch


class Outcome(Mapping[str, float]):
    """The metrics of one update by name, averaged over the batch; those of single tasks are called `name/task`.

    Args:
      update: its number, from 1 on.
      names: of the values [n].
      shown: how many of them are metrics; behind them is what only `check` looks at: norms of all gradients of a module,
        and of single ones.
    """

    def __init__(self, update: int, names: tuple[str, ...], shown: int, values: torch.Tensor):
        self.update, self._names, self._shown = update, names, shown
        self._values, self._event, self._read = values, None, None
        if values.is_cuda:
            # on the way to memory that the GPU reaches by itself, while it goes on
            self._values = values.to('cpu', non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def check(self) -> None:
        """Waits for the update.

        Raises:
          FloatingPointError: a loss or a gradient is not finite; it names which.
        """
        found = self._all()
        if all(map(math.isfinite, found.values())):
            return
        where, bad = f'update {self.update}', [name for name, value in found.items() if not math.isfinite(value)]
        losses = [name for name in bad if name.endswith('_loss')]
        if losses:
            raise FloatingPointError(f'{where}: the {losses[0].removesuffix("_loss")} loss is not finite')
        norms = [name for name in bad if name.endswith('_gradient_norm')]
        single = [name for name in bad if name not in (*self, *norms)]
        if single:
            raise FloatingPointError(f'{where}: the gradient of {single[0]} is not finite')
        if norms:
            raise FloatingPointError(f'{where}: the gradient of {norms[0].removesuffix("_gradient_norm")}.all together '
                                     'is not finite')

    def _all(self) -> dict[str, float]:
        if self._read is None:
            if self._event is not None:
                self._event.synchronize()
            self._read = dict(zip(self._names, self._values.tolist()))
        return self._read

    def __getitem__(self, name: str) -> float:
        if name not in self._names[:self._shown]:
            raise KeyError(name)
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names[:self._shown])

    def __len__(self) -> int:
        return self._shown

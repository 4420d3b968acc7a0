# SPDX-License-Identifier: Apache-2.0
"""A batch as one piece of memory: forty small arrays cost an interpreter, a pipe and a GPU more than their bytes do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from chef_learning.replay import Batch

ALIGN = 64      # bytes; as much as any kind of element wants

# Of every array by its path, such as `observation/joint_angle`: offset in bytes, dtype, shape.
Layout = dict[str, tuple[int, str, tuple[int, ...]]]


@dataclass(frozen=True)
class Packed:
    """The bytes [n] of a batch, uint8, on a GPU from the event `ready` on, and where in them its arrays are."""

    whole: torch.Tensor
    layout: Layout
    ready: torch.cuda.Event

    def batch(self) -> Batch:
        """Views."""
        return views(self.whole, self.layout)


def views(whole: torch.Tensor, layout: Layout) -> Batch:
    """The batch of tensors that lies in the bytes [n]."""
    return assemble({path: whole[offset:offset + size(kind, shape)].view(_torch(kind)).view(shape)
                     for path, (offset, kind, shape) in layout.items()})


def pack(batch: Batch) -> tuple[np.ndarray, Layout]:
    """Copies a batch of NumPy arrays into one array of bytes."""
    place = Place(np.empty(room(batch), np.uint8))
    layout = place.describe(parts(batch))
    return place.bytes[:place.used], layout


def room(batch: Batch, times: int = 1) -> int:
    """Bytes that are enough for a batch of so many times as many transitions."""
    arrays = parts(batch).values()
    return times * sum(a.nbytes for a in arrays) + ALIGN * len(arrays)


def size(kind: str, shape: tuple[int, ...]) -> int:
    """Bytes of an array."""
    return np.dtype(kind).itemsize * int(np.prod(shape))


class Place:
    """Room for one batch, uint8 [n]: `empty` makes arrays in it, `describe` tells where the arrays of a batch are."""

    def __init__(self, memory: np.ndarray):
        self.bytes, self.used = memory, 0

    def empty(self, shape, kind) -> np.ndarray:
        start, end = self.used, self.used + size(kind, shape)
        self.used = -(-end // ALIGN) * ALIGN
        return self.bytes[start:end].view(kind).reshape(shape)

    def describe(self, arrays: dict[str, np.ndarray]) -> Layout:
        """What lies elsewhere is copied into it."""
        out = {}
        begin = _address(self.bytes)
        for path, array in arrays.items():
            offset = _address(array) - begin
            if not (0 <= offset < len(self.bytes) and array.flags.c_contiguous):
                copy = self.empty(array.shape, array.dtype)
                copy[...] = array
                offset = _address(copy) - begin
            out[path] = offset, array.dtype.str, array.shape
        return out


def parts(batch: Batch) -> dict[str, Any]:
    """A batch's arrays by path."""
    out = {}
    for f in fields(batch):
        value = getattr(batch, f.name)
        out.update({f'{f.name}/{k}': v for k, v in value.items()} if isinstance(value, dict) else {f.name: value})
    return out


def assemble(arrays: dict[str, Any]) -> Batch:
    """The batch that `parts` took apart."""
    out: dict = {}
    for path, array in arrays.items():
        name, _, key = path.partition('/')
        if key:
            out.setdefault(name, {})[key] = array
        else:
            out[name] = array
    return Batch(**out)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__['data'][0]


def _torch(kind: str) -> torch.dtype:
    return torch.from_numpy(np.empty(0, kind)).dtype

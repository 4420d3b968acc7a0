# SPDX-License-Identifier: Apache-2.0
"""Work on a GPU recorded once as a CUDA graph: hundreds of small kernels then cost one launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

PLAIN = 3       # calls before recording: libraries, compilers and optimisers set themselves up in the first ones


class Captured:
    """Calls `work` plainly a few times, then records it and from then on replays the record.

    What the record was made with stays: tensors that `work` returns are overwritten by the next call, parameters must
    stay where they are in memory. Inputs are copied to where the record reads them.

    Args:
      work: takes nested dicts and tuples of tensors of one GPU, returns any. It must not look at a value (no `.item()`),
        and is called anew, plainly, where the inputs' shapes are others.
      generator: what `work` draws random numbers from, if it does; it goes on as it would in plain calls.
      device: of the tensors.
    """

    def __init__(self, work: Callable[..., Any], device: torch.device, generator: torch.Generator | None = None):
        self._work, self._device, self._generator = work, device, generator
        self._stream = torch.cuda.Stream(device)
        self.forget()

    @property
    def recorded(self) -> bool:
        """Whether the last call replayed a record."""
        return self._graph is not None

    def forget(self) -> None:
        """The next calls are plain again: something that the record uses has been replaced."""
        self._calls, self._graph, self._inputs, self._output = 0, None, None, None

    def __call__(self, *inputs: Any) -> Any:
        if self._graph is not None and _alike(self._inputs, inputs):
            _copy(self._inputs, inputs)
            self._graph.replay()
            return self._output
        self._calls = self._calls + 1 if self._graph is None else 1
        self._graph = None
        if self._calls <= PLAIN:
            return self._plainly(inputs)
        self._record(inputs)
        self._graph.replay()        # recording computes nothing
        return self._output

    def _plainly(self, inputs: tuple) -> Any:
        # on a stream of their own, as the record will be
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            output = self._work(*inputs)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return output

    def _record(self, inputs: tuple) -> None:
        self._inputs = _clone(inputs)
        graph = torch.cuda.CUDAGraph()
        if self._generator is not None:
            graph.register_generator_state(self._generator)
        # other threads (the one that draws batches) may go on allocating meanwhile
        with torch.cuda.graph(graph, capture_error_mode='thread_local'):
            self._output = self._work(*self._inputs)
        self._graph = graph


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(_alike(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(_alike, a, b))
    return a.shape == b.shape and a.dtype == b.dtype


def _clone(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _clone(v) for k, v in value.items()}
    return tuple(map(_clone, value)) if isinstance(value, tuple) else value.clone()


def _copy(to: Any, value: Any) -> None:
    if isinstance(to, dict):
        for k in to:
            _copy(to[k], value[k])
    elif isinstance(to, tuple):
        for t, v in zip(to, value):
            _copy(t, v)
    else:
        to.copy_(value, non_blocking=True)

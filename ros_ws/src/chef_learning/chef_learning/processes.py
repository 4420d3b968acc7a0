# SPDX-License-Identifier: Apache-2.0
"""Starts several processes of `chef train` on this machine; torchrun does the same, also over several machines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

POLL_S = 0.1
GRACE_S = 20.0      # after one has failed, until the others are killed
STOP_S = 120.0      # after a request to stop: an update, a policy and a checkpoint


def run(module: str, words: list[str], count: int) -> int:
    """Runs `python -m module words` as `count` processes that find each other, see `chef_learning.parallel`.

    SIGINT and SIGTERM are passed on. Once one fails, the others are ended.

    Returns:
      0, or the exit status of the first that failed; 1, after one line, if a signal killed it.
    """
    asked: list[int] = []
    before = {n: signal.signal(n, lambda number, frame: asked.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    processes: list[subprocess.Popen] = []
    try:
        port = _free_port()
        for rank in range(count):
            variables = {'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': count, 'MASTER_ADDR': '127.0.0.1',
                         'MASTER_PORT': port}
            processes.append(subprocess.Popen([sys.executable, '-m', module, *words],
                                              env={**os.environ, **{k: str(v) for k, v in variables.items()}}))
        return _watch(processes, asked)
    finally:
        for p in processes:
            if p.poll() is None:
                p.kill()
                p.wait(GRACE_S)
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(processes: list[subprocess.Popen], asked: list[int]) -> int:
    failed, passed_on, deadline = None, 0, float('inf')
    while any(p.poll() is None for p in processes):
        for number in asked[passed_on:]:
            passed_on += 1
            deadline = min(deadline, time.monotonic() + STOP_S)
            for p in processes:
                p.send_signal(number)
        if failed is None:
            failed = _failed(processes)
            if failed is not None and not asked:
                deadline = min(deadline, time.monotonic() + GRACE_S)
        if time.monotonic() > deadline:
            for p in processes:
                p.kill()
        time.sleep(POLL_S)
    rank = _failed(processes) if failed is None else failed
    if rank is None:
        return 0
    code = processes[rank].returncode
    if code < 0:
        print(f'chef train: process {rank} was ended by {signal.Signals(-code).name}', file=sys.stderr)
        return 1
    return code


def _failed(processes: list[subprocess.Popen]) -> int | None:
    # one that a signal killed is the cause, and what the others say of it is not
    codes = [(p.poll() or 0, rank) for rank, p in enumerate(processes)]
    return next((rank for code, rank in sorted(codes) if code), None)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

# SPDX-License-Identifier: Apache-2.0
"""Two processes with half a batch each do what one does with the whole."""

import multiprocessing
import os
import socket

import numpy as np
import pytest
import torch
from conftest import small_config
from test_learner import random_batch

from chef_learning import checkpoint
from chef_learning.learner import Learner

CONFIG = small_config(network={'channels': [4, 8], 'blocks': 1, 'embedding': 8, 'encoder': 16, 'torso': [16],
                               'head': [16], 'atoms': 11, 'gripper': 'categorical'})


def batches():
    rng = np.random.default_rng(0)
    return [random_batch(rng) for _ in range(7)]


def part_of(batch, part):
    def cut(value):
        return {k: cut(v) for k, v in value.items()} if isinstance(value, dict) else value[part]
    return type(batch)(*(cut(getattr(batch, name)) for name in batch.__dataclass_fields__))


def train(rank: int, port: int, folder, out) -> None:
    """One of two: all batches, a checkpoint, and then one that is bad in the second one's half."""
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    learner = Learner(CONFIG, seed=3)
    for batch in batches():
        learner.step(part_of(batch, learner.parallel.share(8)))
    if rank == 0:
        checkpoint.save(learner, folder)
    bad = batches()[0]
    bad.returns[-1, 0] = np.nan
    try:
        learner.step(part_of(bad, learner.parallel.share(8)))
    except FloatingPointError as e:
        out.put(str(e))
    learner.parallel.close()


def test_two_processes_equal_one_and_notice_alike_what_is_not_finite(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    context = multiprocessing.get_context('fork')       # importing torch anew takes longer than all the rest
    out = context.Queue()
    processes = [context.Process(target=train, args=(rank, port, tmp_path, out)) for rank in range(2)]
    for p in processes:
        p.start()
    said = [out.get(timeout=120) for _ in processes]
    for p in processes:
        p.join(60)
        assert p.exitcode == 0
    assert said == ['update 8: the critic loss is not finite'] * 2
    alone, together = Learner(CONFIG, seed=3), Learner(CONFIG, seed=0)
    for batch in batches():
        alone.step(batch)
    checkpoint.resume(together, tmp_path)
    for name in ('actor', 'critic', 'target_critic', 'duals'):
        pairs = zip(getattr(alone, name).named_parameters(), getattr(together, name).named_parameters())
        for (label, p), (_, q) in pairs:
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5, msg=lambda m, label=label: f'{label}: {m}')


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch):
    parallel = Learner(small_config()).parallel
    monkeypatch.setattr(parallel, 'size', 3)
    with pytest.raises(ValueError, match='batch_size'):
        parallel.share(8)

# SPDX-License-Identifier: Apache-2.0
"""Two processes with half a batch each do what one does with the whole."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import small_config
from test_learner import random_batch

from chef_learning import checkpoint
from chef_learning.learner import Learner

PROGRAM = '''
import sys
sys.path.insert(0, {tests!r})
import numpy as np, torch
torch.set_num_threads(1)
from test_parallel import batches, part_of, CONFIG
from chef_learning import checkpoint
from chef_learning.learner import Learner
learner = Learner(CONFIG, seed=3)
for batch in batches():
    metrics = learner.step(part_of(batch, learner.parallel.share(8)))
if learner.parallel.rank == 0:
    checkpoint.save(learner, sys.argv[1])
if {broken}:
    bad = batches()[0]
    if learner.parallel.rank == 1:
        bad.returns[-1, 0] = float("nan")
    try:
        learner.step(part_of(bad, learner.parallel.share(8)))
    except FloatingPointError as e:
        print(e, flush=True)
learner.parallel.close()
'''
CONFIG = small_config(network={'channels': [4, 8], 'blocks': 1, 'embedding': 8, 'encoder': 16, 'torso': [16],
                               'head': [16], 'atoms': 11, 'gripper': 'categorical'})


def batches():
    rng = np.random.default_rng(0)
    return [random_batch(rng) for _ in range(7)]


def part_of(batch, part):
    def cut(value):
        return {k: cut(v) for k, v in value.items()} if isinstance(value, dict) else value[part]
    return type(batch)(*(cut(getattr(batch, name)) for name in batch.__dataclass_fields__))


def test_two_processes_equal_one_and_notice_alike_what_is_not_finite(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    program = PROGRAM.format(tests=os.path.dirname(__file__), broken=True)
    processes = [subprocess.Popen(
        [sys.executable, '-c', program, str(tmp_path)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, 'RANK': str(rank), 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1',
             'MASTER_PORT': str(port)}) for rank in range(2)]
    outputs = [p.communicate(timeout=120) for p in processes]
    for p, (out, err) in zip(processes, outputs):
        assert p.returncode == 0, err
        assert out.strip() == 'update 8: the critic loss is not finite'
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

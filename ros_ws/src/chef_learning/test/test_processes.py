# SPDX-License-Identifier: Apache-2.0
"""Several processes of one training: started, stopped and ended together, equal to one, by either way to start them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL, small_config
from test_learner import random_batch
from test_run_learner import losses

from chef_learning import checkpoint, processes, train
from chef_learning.learner import Learner
from chef_task.bag.synthetic import write_synthetic_episode

DEADLINE_S = 240


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module `worker` that `processes.run` can start."""
    def make(text):
        (tmp_path / 'worker.py').write_text('import os, sys, time\nrank = int(os.environ["RANK"])\n' + text)
        monkeypatch.setenv('PYTHONPATH', f'{tmp_path}{os.pathsep}{os.environ.get("PYTHONPATH", "")}')
        return 'worker'
    return make


def test_each_process_knows_its_place(module, tmp_path):
    name = module('keys = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")\n'
                  'open(f"{sys.argv[1]}/{rank}.txt", "w").write(" ".join(os.environ[k] for k in keys))\n')
    assert processes.run(name, [str(tmp_path)], 3) == 0
    said = [(tmp_path / f'{rank}.txt').read_text().split() for rank in range(3)]
    assert [s[:4] for s in said] == [[str(r), str(r), '3', '127.0.0.1'] for r in range(3)]
    assert len({s[4] for s in said}) == 1


def test_the_first_that_fails_gives_the_status_and_ends_the_others(module, monkeypatch):
    monkeypatch.setattr(processes, 'GRACE_S', 0.5)
    name = module('sys.exit(7) if rank == 1 else time.sleep(1000)\n')
    assert processes.run(name, [], 3) == 7


def test_one_that_is_killed_is_told_of_in_one_line(module, monkeypatch, capfd):
    monkeypatch.setattr(processes, 'GRACE_S', 0.5)
    name = module('os.kill(os.getpid(), 9) if rank == 0 else time.sleep(1000)\n')
    assert processes.run(name, [], 2) == 1
    assert capfd.readouterr().err == 'chef train: process 0 was ended by SIGKILL\n'


def start(*words):
    return subprocess.Popen([sys.executable, '-m', 'chef_learning.train', *map(str, words)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def settings_file(tmp_path):
    path = tmp_path / 'learner.yaml'
    path.write_text(yaml.safe_dump({**SMALL, 'observation': 'state', 'metrics_period': 1}))
    return path


def test_two_processes_equal_one_by_either_way_and_go_on_where_they_stopped(tmp_path, settings_file, capsys):
    """--processes makes four updates, torchrun makes it seven; one process makes seven at once."""
    for seed in range(3):
        write_synthetic_episode(tmp_path / 'run' / 'episodes', seed, 10, 'state')
    words = [str(tmp_path / 'run'), '--config', str(settings_file), '--device', 'cpu']
    alone, together = tmp_path / 'alone', tmp_path / 'together'
    assert train.main([*words, '--output', str(alone), '--updates', '7']) == 0
    first = start(*words, '--output', together, '--updates', 4, '--processes', 2)
    out, err = first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 0 and out.count('4 updates') == 2 and out.count('added') == 1, err
    second = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '-m',
         'chef_learning.train', *words, '--output', str(together), '--updates', '7'],
        capture_output=True, text=True, timeout=DEADLINE_S)
    assert second.returncode == 0 and second.stdout.count('resumed from') == 1, second.stderr
    expected, seen = losses(alone), losses(together)
    assert list(seen) == list(expected) == [1, 2, 3, 4, 5, 6, 7]
    assert seen == pytest.approx(expected, rel=1e-4)
    one, two = (checkpoint.load(checkpoint.checkpoints(f / 'learner' / 'checkpoints')[-1]) for f in (alone, together))
    for part in ('actor', 'critic', 'duals'):
        for key, value in one[part].items():
            torch.testing.assert_close(value, two[part][key], rtol=1e-4, atol=1e-5)
    assert torch.equal(one['generator'], two['generator'])


@pytest.mark.parametrize('what', ['interrupted', 'killed'])
def test_they_end_together(tmp_path, settings_file, what):
    write_synthetic_episode(tmp_path / 'run' / 'episodes', 0, 10, 'state')
    parent = start(tmp_path / 'run', '--config', settings_file, '--updates', 10**6, '--processes', 2, '--device', 'cpu')
    try:
        metrics = tmp_path / 'run' / 'offline' / 'learner' / 'metrics.jsonl'
        deadline = time.monotonic() + DEADLINE_S
        while not (metrics.exists() and metrics.read_text()):
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        children = list(map(int, Path(f'/proc/{parent.pid}/task/{parent.pid}/children').read_text().split()))
        assert len(children) == 2
        if what == 'interrupted':
            parent.send_signal(signal.SIGINT)
        else:
            second = next(p for p in children if b'\0RANK=1\0' in Path(f'/proc/{p}/environ').read_bytes())
            os.kill(second, signal.SIGKILL)
        out, err = parent.communicate(timeout=DEADLINE_S)
    finally:
        parent.kill()
    assert not any(Path(f'/proc/{p}').exists() for p in children)
    if what == 'interrupted':
        assert parent.returncode == 130 and err == ''
        done = [json.loads(line)['update'] for line in metrics.read_text().splitlines()]
        saved = checkpoint.checkpoints(metrics.parent / 'checkpoints')[-1]
        assert saved.name == f'update_{done[-1]:09d}.ckpt'
    else:
        assert parent.returncode == 1 and 'process 1 was ended by SIGKILL' in err and 'Traceback' not in err
        assert all(line.startswith('chef train: ') for line in err.splitlines() if 'Gloo' not in line and line)


@pytest.mark.parametrize('count, message', [(3, 'batch_size: 8 transitions cannot be shared evenly by 3 processes'),
                                            (0, '--processes must be at least 1')])
def test_a_number_that_does_not_fit_is_refused_before_anything_starts(tmp_path, settings_file, capsys, count, message):
    words = [str(tmp_path), '--config', str(settings_file), '--processes', str(count)]
    assert train.main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and not (tmp_path / 'offline').exists()


def test_a_checkpoint_of_another_kind_of_device_is_gone_on_with(rng):
    a, b = Learner(small_config(), seed=1), Learner(small_config(), seed=2)
    a.step(random_batch(rng))
    b.restore({**a.state(), 'device': 'cuda', 'generator': torch.zeros(16, dtype=torch.uint8)})
    assert b.updates == 1 and b.seed == 1
    b.step(random_batch(rng))

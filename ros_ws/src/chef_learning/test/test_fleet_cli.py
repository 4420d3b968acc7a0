# SPDX-License-Identifier: Apache-2.0
"""`./chef fleet`: what it prints, and a fleet's learner that is killed and comes back, here or on another machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from chef_learning import fleet_cli
from chef_learning.policy_files import read_info
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.storage import Storage

SMALL = """
observation: state
batch_size: 8
network: {torso: [16], head: [16], encoder: 16, atoms: 11}
mpo: {action_samples: 5}
replay: {min_transitions: 20}
"""


@pytest.fixture
def fleet(tmp_path):
    """A storage with an episode of each of two cells."""
    storage = Storage(tmp_path / 'storage')
    for k, cell in enumerate(('cell_1', 'cell_2')):
        write_synthetic_episode(tmp_path / cell / 'episodes', seed=k, steps=15, observation='state', cell=cell)
    return storage


def test_create_upload_status_and_fetch(fleet, tmp_path, capsys):
    assert fleet_cli.main(['status', fleet.url]) == 1 and 'no storage' in capsys.readouterr().err
    assert fleet_cli.main(['create', fleet.url]) == 0
    for cell in ('cell_1', 'cell_2'):
        assert fleet_cli.main(['upload', str(tmp_path / cell), fleet.url]) == 0
        assert '1 episodes uploaded' in capsys.readouterr().out
        assert fleet_cli.main(['upload', str(tmp_path / cell), fleet.url]) == 0
        assert '0 episodes uploaded' in capsys.readouterr().out
    assert fleet_cli.main(['status', fleet.url]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith('cell_1: 1 episodes; newest 2') and out[-1] == '2 episodes in all; 0 policy versions'
    assert fleet_cli.main(['fetch', fleet.url, str(tmp_path / 'copy')]) == 0
    assert len(list((tmp_path / 'copy').glob('cells/*/episodes/*/metadata.yaml'))) == 2


@pytest.mark.parametrize('words, line', [
    (['upload', 'none', 'x'], 'none: has no episodes'),
    (['status', 'nosuch://x'], 'nosuch://x: cannot be opened'),
    (['learn', 'x', 'y', '--publish-period', '0'], '--publish-period must be positive'),
])
def test_what_is_asked_wrongly_is_one_line(words, line, capsys):
    assert fleet_cli.main(words) == 2
    err = capsys.readouterr().err
    assert line in err and err.count('\n') == 1


def test_a_killed_learner_goes_on_and_one_elsewhere_does_not_begin_anew(fleet, tmp_path):
    fleet.create()
    for cell in ('cell_1', 'cell_2'):
        assert fleet_cli.main(['upload', str(tmp_path / cell), fleet.url]) == 0
    (tmp_path / 'small.yaml').write_text(SMALL)

    def words(folder: str) -> list[str]:
        return ['learn', fleet.url, str(tmp_path / folder), '--config', str(tmp_path / 'small.yaml'),
                '--publish-period', '0.1']
    first = subprocess.Popen([sys.executable, '-m', 'chef_learning.fleet_cli', *words('here')],
                             env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'OMP_NUM_THREADS': '1'})
    end = time.monotonic() + 90
    while len(fleet.names('policies')) < 2 and time.monotonic() < end:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    published = fleet.names('policies')
    assert len(published) >= 2
    newest = read_info(tmp_path / 'storage' / 'policies' / published[-1])
    assert fleet_cli.main([*words('here'), '--updates', str(newest.updates + 30)]) == 0
    after = fleet.names('policies')
    assert after[:len(published)] == published and len(after) > len(published)
    assert [p.name for p in (tmp_path / 'here' / 'policies').iterdir() if p.name not in after] == []

    # its disk is new: the numbers go on, and what learned less is not published
    assert fleet_cli.main([*words('elsewhere'), '--updates', '20']) == 0
    assert fleet.names('policies') == after
    assert [p.name for p in (tmp_path / 'elsewhere' / 'policies').iterdir()] == after[-1:]
    shares = {json.loads(line)['episodes'] for line in
              (tmp_path / 'elsewhere' / 'learner' / 'metrics.jsonl').read_text().splitlines()}
    assert shares and max(shares) == 2

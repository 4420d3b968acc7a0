# SPDX-License-Identifier: Apache-2.0
"""Candidates on a real Ray cluster of two nodes, stopped, and with one node killed while a candidate learns on it."""

import json
import os
import time

import pytest
from test_explore import make

from chef_learning.checkpoint_names import newest_update
from chef_learning.experiment.folder import ExperimentError
from chef_learning.experiment.stages import given
from chef_learning.experiment.training import Candidate, train

ray = pytest.importorskip('ray')
# the bare minimum of processes
NODE = {'num_cpus': 1, 'include_dashboard': False, 'include_log_monitor': False,
        'object_store_memory': 80 * 2**20}
WAIT_S = 120.0


@pytest.fixture(scope='module')
def cluster():
    from ray.cluster_utils import Cluster
    os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
    made = Cluster(initialize_head=True, head_node_args={**NODE, 'no_monitor': True})
    yield made
    made.shutdown()


def on_ray(cluster, say, cpus=1.0, gpus=0.0):
    from chef_learning.experiment.ray_executor import OnRay
    return OnRay(cluster.address, cpus, gpus, say)


def test_a_node_that_is_killed_and_a_stop_lose_nothing(tmp_path, cluster):
    explore = {'updates': 600, 'jobs': 3, 'candidates': {'a': {}, 'b': {}, 'bad': {'replay.min_transitions': 10**6}}}
    experiment, said, killed = make(tmp_path / 'e', explore, episodes=2), [], []
    stage, end = experiment.stages[1], time.monotonic() + WAIT_S
    place, node = experiment.place(stage, 1), cluster.add_node(**NODE)

    def run(stop):
        of = {1: {name: Candidate(config) for name, config in stage.candidates.items()}}
        return train(stage, 3, on_ray(cluster, said.append), given(experiment, stage, of), said.append, stop)

    def learning():
        """Names of those that have learned something."""
        assert time.monotonic() < end, said
        return [name for name in 'ab' if newest_update(place / name / 'learner' / 'checkpoints')]
    assert not run(lambda: bool(learning()))
    (first, *_), results = learning(), list(place.glob('[ab]/result.json'))
    assert not results and newest_update(place / first / 'learner' / 'checkpoints') < 600

    def starts(name):
        """Where it was started so far, a line each."""
        log = place / name / 'log.txt'
        return [line for line in log.read_text().splitlines() if line.startswith('on ')] if log.exists() else []
    before = {name: len(starts(name)) for name in 'ab'}

    def kill():
        """The node, once one of them was started there anew."""
        for name in learning() if not killed else ():
            if any(f'node {node.node_id[:8]}' in line for line in starts(name)[before[name]:]):
                killed.append(name)
                cluster.remove_node(node, allow_graceful=False)
        return False
    assert run(kill)
    (moved,) = killed
    assert any(f't1/{moved}: where it learned is gone' in line for line in said)
    log = (place / moved / 'log.txt').read_text()
    assert log.rpartition('\non ')[2].count(cluster.head_node.node_id[:8]) == 1 and log.count('resumed from') >= 1
    policies = {json.loads(p.read_text())['sha256'] for p in place.glob('[ab]/policies/*/policy.json')}
    assert len(policies) == 1 and all(json.loads((place / name / 'result.json').read_text())['updates'] == 600 for name in 'ab')
    assert 'are needed' in json.loads((place / 'bad' / 'result.json').read_text())['error']
    assert sum('bad failed: 40 transitions' in line for line in said) == 1      # and was not tried again


def test_what_cannot_be_is_one_line(cluster):
    with pytest.raises(ExperimentError, match='none of its . machines has 1 processors and 3 GPUs') as e:
        on_ray(cluster, print, gpus=3.0)
    assert '\n' not in str(e.value) and not ray.is_initialized()

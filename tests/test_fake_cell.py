# SPDX-License-Identifier: Apache-2.0
"""A real cell's graph with fakes of all its devices, pictures and tracker: it collects as the simulated one does, and ends as
it should.

What comes of every fault of every device: `./chef bench faults --only 'real ...'`.
"""

from __future__ import annotations

import json
import os
import signal
import time

import fake_cell
import numpy as np
import pytest
from harness import Graph, no_process_left

from chef_task.bag.audit import audit
from chef_task.bag.files import find_episodes
from chef_task.bag.reader import Episode

pytestmark = pytest.mark.skipif(bool(fake_cell.missing()), reason=f'a fake cell needs {fake_cell.missing()}')
STOP_NS = 500_000_000   # from the loss to rest: what a stream may be old, and a margin of a busy machine


def test_a_real_cell_collects_and_an_unplugged_sensor_ends_it(tmp_path):
    run = tmp_path / 'run'
    with Graph(run, cell=fake_cell.write(tmp_path, pictures=True), fake_devices='true', episodes=2, steps=40,
               policy='random', learner='false') as graph:
        graph.wait_for(r'episode 1: time_limit')
        graph.wait_for(r'_000002 begins')
        time.sleep(0.4)     # some ticks of it
        killed = time.time_ns()
        os.kill(graph.node_pid('fake_wrench'), signal.SIGKILL)
        code = graph.wait(40)
        left = no_process_left(graph)
    assert code != 0 and not left, (graph.text, left)
    graph.wait_for(r"\[wrench\] ERROR the device is lost: the force sensor \(Robotiq FTS-300\) at \S+ ", 1.0)
    assert 'Traceback' not in graph.text

    whole, broken = (Episode.open(bag) for bag in find_episodes(run / 'episodes'))
    for episode in (whole, broken):
        assert not audit(episode.path).faults
        assert episode.record.metadata['physics'] == 'fake devices, fast'
    poses = whole.series('objects').values['poses']     # as the tracker saw them
    assert np.isfinite(poses).all() and len(list(whole.messages('objects/quality'))) > 20 and whole.observation == 'pixels'
    assert len(whole.steps()) == 41 and whole.record.termination_reason.startswith('time_limit')
    reason = broken.record.termination_reason
    assert reason.startswith(('stale_sensor:wrench', 'node_lost')), reason
    moves = [json.loads(line) for line in (run / 'logs' / 'world_motion.jsonl').read_text().splitlines()]
    assert not moves[-1]['moving'] and moves[-1]['stamp'] - killed < STOP_NS

# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of a single node in mid-episode: the arm stops, nothing is left running, old bags stay whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from harness import Graph, no_process_left

from chef_task.bag.files import find_episodes
from chef_task.bag.mcap_scan import McapScan
from chef_task.bag.reader import Episode
from chef_task.bag.recover import recover

# One of each kind that a loss is told by; `./chef bench faults` kills every node of the graph.
REQUIRED = ('world', 'arm', 'safety', 'episode', 'policy', 'recorder', 'manager', 'collect')
ARGUMENTS = dict(episodes=1, observation='state', physics='fast', policy='random', seed=63)     # its resets are short ways
STOP_WITHIN_NS = 100_000_000
SLICE_NS = 10_000_000   # the simulated world looks at its watchdog once a slice
PERIOD_NS = 50_000_000  # and in lockstep its time goes by control periods


def digest(folder: Path) -> str:
    return hashlib.sha256(b''.join(p.name.encode() + p.read_bytes() for p in sorted(folder.iterdir()))).hexdigest()


# A driver may die in the midst of a sample: with the episode node, which then names it, and not with the recorder.
UNDER_WAY = {'arm': ('joints: ', 'tcp_pose: ', 'tcp_twist: '), 'camera_basket_front_left': ('basket_front_left: ',)}


def bag_of(run: Path, old: Path, killed: str) -> Path:
    """The episode's; in quarantine if that sample is missing from it, and nothing else."""
    found = [b for b in find_episodes(run / 'episodes') if b != old]
    if not found and killed in UNDER_WAY:
        found = list((run / 'episodes' / 'quarantine').iterdir())
        for fault in json.loads((found[0] / 'reasons.json').read_text())['faults']:
            assert fault.startswith(UNDER_WAY[killed]) and 'samples of 1 Steps are missing' in fault, fault
    (bag,) = found
    return bag


def motion(run: Path) -> list[dict]:
    """The simulated world's own record: whether a velocity was applied to the arm, at every change."""
    return [json.loads(line) for line in (run / 'logs' / 'world_motion.jsonl').read_text().splitlines()]


class SimulatedClock:
    """Listens to /clock of a graph in lockstep, from outside; `now` is its newest stamp, ns."""

    def __init__(self, graph: Graph):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rosgraph_msgs.msg import Clock

        self.now = 0
        self._context = graph.context()
        self._node = rclpy.create_node('watch', context=self._context)
        self._node.create_subscription(Clock, '/clock', self._on_clock, 1)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def _on_clock(self, m) -> None:
        self.now = m.clock.sec * 10**9 + m.clock.nanosec

    def newest(self) -> int:
        """Waits for the clock to be heard, then catches up with it."""
        end = time.monotonic() + 20
        while not self.now:
            assert time.monotonic() < end, 'no /clock'
            self._executor.spin_once(timeout_sec=0.1)
        before = 0
        while self.now != before:
            before = self.now
            self._executor.spin_once(timeout_sec=0)
        return self.now

    def close(self) -> None:
        self._node.destroy_node()
        self._context.try_shutdown()


def wait_until_moving(graph: Graph) -> None:
    graph.wait_for(r'episode .* begins')
    end = time.monotonic() + 20
    while time.monotonic() < end:
        time.sleep(0.5)
        if motion(graph.output)[-1]['moving']:
            return
    raise AssertionError(f'the arm never moved:\n{graph.text}')


def wait_until_recorded(run: Path) -> None:
    """Until Steps are on the disk, so that at least one has all its samples: what the recorder holds dies with it."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        for path in run.glob('episodes/.*.partial/*.mcap'):
            scan = McapScan(path)
            if sum(scan.channels[m.channel].msgtype == 'chef_msgs/msg/Step' for m in scan.messages()) > 2:
                return
        time.sleep(0.1)
    raise AssertionError(f'no Steps came to the disk in {run}')


@pytest.mark.parametrize('node, changes', [
    *((node, {}) for node in REQUIRED),
    ('camera_basket_front_left', {'observation': 'pixels'}),
    ('controller', {'speed': 'max'}),
], ids=lambda value: value if isinstance(value, str) else '-'.join(value.values()) or 'state')
def test_a_required_node_may_be_killed(node, changes, collected, tmp_path):
    run = tmp_path / 'run'
    old = run / 'episodes' / collected.bags[0].name
    shutil.copytree(collected.bags[0], old)
    before = digest(old)
    with Graph(run, learner='false', **{**ARGUMENTS, 'steps': 4000, **changes}) as graph:
        wait_until_moving(graph)
        if node == 'recorder':
            wait_until_recorded(run)
        pid = graph.node_pid(node)
        if 'speed' in changes:
            clock = SimulatedClock(graph)
            killed_at, resolution = clock.newest(), PERIOD_NS
        else:
            killed_at, resolution = time.time_ns(), SLICE_NS
        os.kill(pid, signal.SIGKILL)
        if 'speed' in changes:
            clock.close()
        code = graph.wait(40)
        left = no_process_left(graph)
    assert code != 0, graph.text
    assert f"required node '{node}' was ended by SIGKILL" in graph.text
    assert not left, left
    assert digest(old) == before
    if node != 'world':   # with the world dies the arm
        last = motion(run)[-1]
        assert not last['moving']
        assert last['stamp'] - killed_at <= STOP_WITHIN_NS + resolution, graph.text
    if node == 'recorder':
        assert not find_episodes(run / 'episodes')[1:]
        (partial,) = (run / 'episodes').glob('.*.partial')
        episode = Episode.open(recover(partial).bag)
        assert episode.record.termination_reason.startswith('recorder_lost:') and len(episode.steps()) > 1
    else:
        episode = Episode.open(bag_of(run, old, node))
        assert episode.record.termination_reason.split(':')[0] not in ('time_limit', ''), episode.record
        assert len(episode.steps()) > 1


def test_the_cell_works_on_without_its_learner(tmp_path):
    with Graph(tmp_path / 'run', learner='true', steps=60, speed='max', **{**ARGUMENTS, 'policy': 'latest'}) as graph:
        graph.wait_for(r'episode .* begins')
        os.kill(graph.node_pid('learner'), signal.SIGKILL)
        assert graph.wait(90) == 0, graph.text
        assert not no_process_left(graph)
    assert len(find_episodes(tmp_path / 'run' / 'episodes')) == 1


def test_ctrl_c_ends_the_episode_and_seals_its_bag(tmp_path):
    with Graph(tmp_path / 'run', learner='false', **ARGUMENTS) as graph:
        wait_until_moving(graph)
        os.kill(graph.process.pid, signal.SIGINT)
        assert graph.wait(30) != 0
        assert not no_process_left(graph)
    assert not motion(tmp_path / 'run')[-1]['moving']
    (bag,) = find_episodes(tmp_path / 'run' / 'episodes')
    assert Episode.open(bag).record.termination_reason.startswith(('shutdown', 'cancelled'))

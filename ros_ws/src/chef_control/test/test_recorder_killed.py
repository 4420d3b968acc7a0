# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of a recorder in mid-write: at most the last 0.25 s of the episode are lost, whatever the traffic."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import pytest

from chef_task.bag.audit import audit
from chef_task.bag.files import find_episodes
from chef_task.bag.mcap_scan import McapScan
from chef_task.bag.reader import Episode, read_summary
from chef_task.bag.recover import recover

LOST_S = 0.25
# Plays a made-up episode into the recorder in real time, and tells what it has handed in, line by line.
CHILD = """
import sys, threading, time
from chef_control.recording import EpisodeRecorder
from chef_task.bag.reader import Episode
from chef_task.bag.files import raw_messages

episode = Episode.open(sys.argv[1])
messages = sorted(((t, i, c.topic, c.msgtype, bytes(data)) for i, (c, t, data) in enumerate(
    raw_messages(episode.path, episode._files, lambda c: True))), key=lambda m: m[:2])
messages.sort(key=lambda m: not m[2].endswith('/episode'))      # START first, as the recorder sees it
recorder = EpisodeRecorder(sys.argv[2], {}, sensors=[m[2] for m in messages if m[2].endswith('wrench')])
recorder.start(episode.record.episode_id)
while recorder.status.state != 'recording':     # before that the episode node does not tick
    time.sleep(0.01)
first, began = min(m[0] for m in messages[1:]), time.monotonic()
for t, _, topic, msgtype, data in messages[:1] + messages[2:]:
    due = began + (t - first) * 1e-9
    while time.monotonic() < due:
        recorder.poll()
        time.sleep(0.002)
    recorder.message(topic, msgtype, data, t)
    if topic.endswith('/step'):
        recorder.step(False, {})
    print(t, flush=True)
"""


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_a_killed_recorder_loses_at_most_a_quarter_of_a_second(observation, tmp_path):
    from chef_task.bag.synthetic import write_synthetic_episode

    source = write_synthetic_episode(tmp_path / 'source', 1, 60, observation)
    folder = tmp_path / 'episodes'
    child = subprocess.Popen([sys.executable, '-c', CHILD, str(source), str(folder)], stdout=subprocess.PIPE, text=True)
    wanted = random.Random(observation).randrange(600, 1200)
    handed_in = [int(child.stdout.readline()) for _ in range(wanted)]
    child.send_signal(signal.SIGKILL)
    handed_in += [int(line) for line in child.stdout.read().split()]
    assert child.wait(10) == -signal.SIGKILL
    partial = folder / f'.{source.name}.partial'
    found = [m.log_ns for m in McapScan(partial / f'{source.name}_0.mcap').messages()]
    assert (max(handed_in) - max(found)) * 1e-9 <= LOST_S, f'{len(handed_in)} handed in, {len(found)} found'
    assert find_episodes(folder) == []

    r = recover(partial)
    assert audit(r.bag).faults == () and find_episodes(folder) == [r.bag]
    new, whole = Episode.open(r.bag).steps(), Episode.open(source).steps()
    assert [s.stamps for s in new] == [s.stamps for s in whole[:len(new)]]
    assert (max(handed_in) - new[-1].stamp) * 1e-9 <= LOST_S + 0.05      # the last tick is up to a period old
    assert not read_summary(r.bag).success
    assert read_summary(r.bag).termination_reason.startswith('recorder_lost:')

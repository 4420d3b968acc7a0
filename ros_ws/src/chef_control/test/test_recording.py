# SPDX-License-Identifier: Apache-2.0
"""The recorder's logic with real bags on a real disk, and messages made without ROS."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from chef_control import bag_thread, recording
from chef_control.recording import FAILED, IDLE, QUARANTINED, RECORDING, SEALED, EpisodeRecorder
from chef_task.bag import writer as bag_writer
from chef_task.bag.codec import encoder
from chef_task.bag.definitions import typestore
from chef_task.bag.errors import BagError
from chef_task.bag.files import find_episodes
from chef_task.bag.mcap_scan import McapScan
from chef_task.bag.reader import Episode
from chef_task.messages import serialized_stamp_ns

TYPES = typestore()
SECOND = 1_000_000_000


def serialised(msgtype: str, stamp: int, **fields) -> bytes:
    header = TYPES.types['std_msgs/msg/Header'](
        stamp=TYPES.types['builtin_interfaces/msg/Time'](sec=stamp // SECOND, nanosec=stamp % SECOND), frame_id='')
    return bytes(TYPES.serialize_cdr(TYPES.types[msgtype](header=header, **fields), msgtype))


def wrench(stamp: int) -> bytes:
    v = TYPES.types['geometry_msgs/msg/Vector3'](x=0.0, y=0.0, z=1.0)
    w = TYPES.types['geometry_msgs/msg/Wrench'](force=v, torque=v)
    return serialised('geometry_msgs/msg/WrenchStamped', stamp, wrench=w)


def info(stamp: int, event: int, **fields) -> bytes:
    values = dict(event=event, episode_id='e1', cell='cell_1', triplet=1, seed=3, tasks=['open'], metadata='{}',
                  policy_version='', steps=1, termination_reason='time_limit', success=False, peak_force_n=0.0,
                  returns=np.zeros(1, np.float32))
    return serialised('chef_msgs/msg/EpisodeInfo', stamp, **{**values, **fields})


def image(stamp: int, pixels) -> bytes:
    height, width, _ = pixels.shape
    return serialised('sensor_msgs/msg/Image', stamp, height=height, width=width, encoding='rgb8', is_bigendian=0,
                      step=3 * width, data=pixels.reshape(-1))


def step(stamp: int, index: int, last: bool, wrench_stamp: int, episode_id: str) -> bytes:
    named = TYPES.types['builtin_interfaces/msg/Time'](sec=wrench_stamp // SECOND, nanosec=wrench_stamp % SECOND)
    action = np.zeros(5, np.float32)
    rewards = TYPES.types['chef_msgs/msg/Rewards'](tasks=['open'], values=np.zeros(1, np.float32))
    return serialised(
        'chef_msgs/msg/Step', stamp, episode_id=episode_id, index=index, streams=['wrench'], stamps=[named],
        last_action=action, action=action, task=0, policy_version='v1', rewards=rewards, discount=1.0, last=last,
        observation_age_ms=0.0, latency_ms=0.0)


def until(recorder: EpisodeRecorder, condition, deadline_s: float = 10.0) -> None:
    """Polls, as the node does, until the status is in a state, or a condition holds."""
    end = time.monotonic() + deadline_s
    while not (condition() if callable(condition) else recorder.status.state == condition):
        assert time.monotonic() < end, recorder.status
        recorder.poll()
        time.sleep(0.005)


@pytest.fixture
def recorder(tmp_path):
    r = EpisodeRecorder(tmp_path / 'episodes', {}, sensors=['/cell_1/wrench'], drain_s=0.3)
    yield r
    r.close()


def feel(r: EpisodeRecorder, stamp: int) -> None:
    r.message('/cell_1/wrench', 'geometry_msgs/msg/WrenchStamped', wrench(stamp), stamp)


def do_step(r: EpisodeRecorder, index: int, last: bool = False, named: int = SECOND, episode_id: str = 'e1') -> None:
    """A Step as the node hands it over."""
    stamp = SECOND + index * 50_000_000
    r.message('/cell_1/step', 'chef_msgs/msg/Step', step(stamp, index, last, named, episode_id), stamp)
    r.step(last, {'/cell_1/wrench': named})


def begin(r: EpisodeRecorder, episode_id: str = 'e1') -> None:
    r.start(episode_id)
    r.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 0, episode_id=episode_id), SECOND)
    feel(r, SECOND)
    do_step(r, 0, episode_id=episode_id)


def end(r: EpisodeRecorder, reason: str = 'time_limit', **fields) -> None:
    message = info(SECOND, 1, termination_reason=reason, **fields)
    r.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', message, SECOND)
    r.end('e1', reason)


def test_a_sensor_is_unheard_until_something_comes_whether_an_episode_is_open_or_not(tmp_path):
    for opened in (False, True):
        r = EpisodeRecorder(tmp_path / f'{opened}', {}, sensors=['/cell_1/wrench'], drain_s=0.3)
        if opened:
            r.start('e1')
        assert r.unheard == ['/cell_1/wrench']
        r.message('/cell_1/wrench', 'geometry_msgs/msg/WrenchStamped', wrench(SECOND))
        assert r.unheard == []
        r.start('e2')
        assert r.unheard == []
        r.seal_now('')
        r.close()


def test_header_stamps_are_read_from_the_bytes():
    assert serialized_stamp_ns(wrench(12 * SECOND + 345)) == 12 * SECOND + 345


def test_an_episode_becomes_one_sealed_bag(recorder, tmp_path):
    begin(recorder)
    do_step(recorder, 1, last=True)
    end(recorder)
    until(recorder, SEALED)
    assert recorder.status.messages == 5 and recorder.status.path == str(tmp_path / 'episodes' / 'e1')
    assert [Path(p).name for p in find_episodes(tmp_path / 'episodes')] == ['e1']


def test_the_seal_waits_for_what_the_last_step_names(recorder):
    begin(recorder)
    late = SECOND + 50_000_000
    do_step(recorder, 1, last=True, named=late)
    end(recorder)
    for _ in range(5):
        recorder.poll()
    assert recorder.recording
    feel(recorder, late)
    until(recorder, SEALED)
    assert recorder.status.messages == 6


def test_a_sample_that_never_comes_puts_the_bag_into_quarantine(recorder, tmp_path):
    begin(recorder)
    do_step(recorder, 1, last=True, named=9 * SECOND)
    end(recorder, 'stale_sensor:wrench')
    until(recorder, QUARANTINED)
    assert recorder.status.dropped == 1 and 'wrench: samples of 1 Steps are missing' in recorder.status.error
    assert recorder.status.path == str(tmp_path / 'episodes' / 'quarantine' / 'e1')
    assert find_episodes(tmp_path / 'episodes') == []
    begin(recorder, 'e2')                           # and the next is as good as ever
    recorder.seal_now('shutdown')
    until(recorder, SEALED)


def test_an_episode_whose_end_never_came_is_sealed_as_lost(recorder, tmp_path):
    begin(recorder)
    recorder.seal_now('episode_node_lost')
    until(recorder, SEALED)
    assert Episode.open(tmp_path / 'episodes' / 'e1').record.termination_reason == 'episode_node_lost'


def test_a_full_disk_is_a_failure_in_words(recorder, monkeypatch):
    monkeypatch.setattr(bag_thread, 'free_bytes', lambda path: 10 << 20)
    recorder.start('e1')
    until(recorder, FAILED)
    assert '10 MiB free' in recorder.status.error and not recorder.recording


def test_a_disk_that_fills_up_ends_the_episode_while_there_is_room_for_its_end(recorder, tmp_path, monkeypatch):
    begin(recorder)
    until(recorder, RECORDING)
    monkeypatch.setattr(bag_thread, 'free_bytes', lambda path: 200 << 20)
    monkeypatch.setattr(bag_thread, '_SPACE_EVERY_S', 0.0)
    feel(recorder, SECOND + 1)
    until(recorder, FAILED)
    assert '200 MiB free' in (error := recorder.status.error) and recorder.recording
    do_step(recorder, 1, last=True)                 # the episode node hears of it and ends the episode
    end(recorder, f'recorder_lost:{error}')
    until(recorder, lambda: find_episodes(tmp_path))
    record = Episode.open(tmp_path / 'episodes' / 'e1').record
    assert record.termination_reason == f'recorder_lost:{error}' and record.steps == 1
    until(recorder, lambda: not list((tmp_path / 'episodes').glob('.e1*')))
    assert recorder.status.state == FAILED and recorder.status.error == error


def test_a_bag_that_exists_is_never_overwritten(recorder, tmp_path):
    (tmp_path / 'episodes' / 'e1').mkdir(parents=True)
    recorder.start('e1')
    until(recorder, FAILED)
    assert 'exists already' in recorder.status.error


def test_the_newest_samples_from_before_the_start_are_in_the_bag(recorder, tmp_path):
    for k in range(5):
        recorder.message('/cell_1/wrench', 'geometry_msgs/msg/WrenchStamped', wrench(SECOND - 5 + k))
    begin(recorder)
    recorder.seal_now('shutdown')
    until(recorder, SEALED)
    stamps = Episode.open(tmp_path / 'episodes' / 'e1').series('wrench').stamps
    assert stamps.tolist() == [SECOND - 2, SECOND - 1, SECOND]


def test_an_episode_that_never_had_a_step_leaves_nothing(recorder, tmp_path):
    recorder.start('e1')
    recorder.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 0))
    until(recorder, RECORDING)
    recorder.end('e1', 'cancelled')
    until(recorder, IDLE)
    assert [p.name for p in (tmp_path / 'episodes').iterdir()] == ['.lock']


def test_an_end_that_overtakes_its_step_waits_for_it(recorder):
    recorder.start('e1')
    recorder.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 0), SECOND)
    feel(recorder, SECOND)
    end(recorder, 'policy_invalid', steps=0)
    recorder.poll()
    do_step(recorder, 0, last=True)
    until(recorder, SEALED)


def test_a_new_start_seals_the_old_and_keeps_its_own_state(recorder, tmp_path):
    begin(recorder)
    until(recorder, RECORDING)
    begin(recorder, 'e2')
    until(recorder, RECORDING)
    assert recorder.status.episode_id == 'e2'
    assert [Path(p).name for p in find_episodes(tmp_path / 'episodes')] == ['e1']


def test_any_error_of_the_writer_is_told(recorder, monkeypatch):
    monkeypatch.setattr(bag_thread, 'BagWriter', lambda *args, **kwargs: 1 / 0)
    recorder.start('e1')
    until(recorder, FAILED)
    assert 'ZeroDivisionError' in recorder.status.error


def test_images_are_encoded_on_their_way_and_all_else_is_counted_as_it_was_sent(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    topic = '/cell_1/basket_front_left/image'
    recorder = EpisodeRecorder(tmp_path / 'episodes', {}, sensors=[topic, '/cell_1/wrench'], drain_s=0.3,
                               transform=encoder('png'))
    try:
        recorder.message(topic, 'sensor_msgs/msg/Image', image(SECOND, pixels), SECOND)     # before the start
        recorder.start('e1')
        recorder.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 0), SECOND)
        feel(recorder, SECOND)
        do_step(recorder, 0)
        recorder.message(topic, 'sensor_msgs/msg/Image', image(2 * SECOND, pixels), 2 * SECOND)
        do_step(recorder, 1, last=True)
        end(recorder)
        until(recorder, SEALED)
    finally:
        recorder.close()
    assert recorder.status.messages == 7 and recorder.status.dropped == 0
    episode = Episode.open(tmp_path / 'episodes' / 'e1')
    assert episode.topics()[topic + '/compressed'] == ('sensor_msgs/msg/CompressedImage', 2)
    assert episode.image_codec == 'png'
    frames = list(episode.images('basket_front_left'))
    assert [stamp for stamp, _ in frames] == [SECOND, 2 * SECOND]
    assert all(np.array_equal(frame, pixels) for _, frame in frames)


def test_an_image_that_cannot_be_encoded_is_told(tmp_path):
    def broken(*message):
        raise ValueError('no such image')

    recorder = EpisodeRecorder(tmp_path / 'episodes', {}, transform=broken)
    try:
        begin(recorder)
        until(recorder, FAILED)
    finally:
        recorder.close()
    assert 'no such image' in recorder.status.error


def test_a_second_recorder_is_refused_until_the_first_is_closed(recorder, tmp_path):
    with pytest.raises(BagError, match=f'{tmp_path}/episodes: another recorder'):
        EpisodeRecorder(tmp_path / 'episodes', {})
    recorder.close()
    EpisodeRecorder(tmp_path / 'episodes', {}).close()


class HangingFile:
    """A file whose writes wait until the disk is back."""

    def __init__(self, file, back: threading.Event):
        self._file, self._back = file, back

    def write(self, data):
        self._back.wait(30)
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.fixture
def disk(monkeypatch):
    """An event: cleared, the disk under the bags' files hangs."""
    back = threading.Event()
    back.set()
    monkeypatch.setattr(bag_writer, 'open', lambda path, mode: HangingFile(open(path, mode), back), raising=False)
    yield back
    back.set()


def stall(r: EpisodeRecorder, disk: threading.Event) -> float:
    """Lets the disk hang under a recording episode; returns how long it took to be told, s."""
    begin(r)
    until(r, lambda: r.status.messages == 3)
    disk.clear()
    began = time.monotonic()
    stamps = itertools.count(SECOND + 1)
    until(r, lambda: feel(r, next(stamps)) or r.status.state == FAILED)
    return time.monotonic() - began


def test_a_stalled_disk_fails_the_episode_within_a_second_and_its_end_is_still_recorded(recorder, tmp_path, disk):
    waited = stall(recorder, disk)
    assert 0.5 < waited < 1.0 and 'stalled' in (error := recorder.status.error)
    do_step(recorder, 1, last=True)
    end(recorder, f'recorder_lost:{error}')
    until(recorder, lambda: not recorder.recording)
    assert find_episodes(tmp_path) == []
    disk.set()
    until(recorder, lambda: find_episodes(tmp_path))
    episode = Episode.open(tmp_path / 'episodes' / 'e1')
    assert episode.record.termination_reason == f'recorder_lost:{error}' and len(episode.steps()) == 2
    begin(recorder, 'e2')
    until(recorder, RECORDING)


def test_how_long_a_message_may_wait_for_the_disk_is_a_setting(tmp_path, disk):
    r = EpisodeRecorder(tmp_path / 'episodes', {}, sensors=['/cell_1/wrench'], stall_s=0.1)
    try:
        assert 0.1 < stall(r, disk) < 0.45
    finally:
        disk.set()
        r.close()


def test_without_an_end_the_stall_is_why_the_bag_ends(recorder, tmp_path, disk):
    stall(recorder, disk)
    error = recorder.status.error
    recorder.seal_now('episode_node_lost')
    disk.set()
    until(recorder, lambda: find_episodes(tmp_path))
    assert Episode.open(tmp_path / 'episodes' / 'e1').record.termination_reason == f'recorder_lost:{error}'


def test_what_waits_for_the_disk_has_a_bound(recorder, tmp_path, disk, monkeypatch):
    monkeypatch.setattr(recording, 'BACKLOG_BYTES', 100_000)
    stall(recorder, disk)
    for k in range(5000):
        feel(recorder, 2 * SECOND + k)
    assert recorder._bags.backlog_bytes < 101_000
    assert not recorder.recording
    do_step(recorder, 1, last=True)     # too late: the bag ends where the first message was left out
    disk.set()
    until(recorder, lambda: find_episodes(tmp_path))
    episode = Episode.open(tmp_path / 'episodes' / 'e1')
    assert len(episode.steps()) == 1 and episode.record.termination_reason.startswith('recorder_lost:stalled')
    assert 1000 < len(episode.series('wrench').stamps) < 5000


def test_a_message_does_not_wait_in_memory_for_a_chunk_to_fill(recorder, tmp_path):
    """What is written is in the file within the time limit, however little it is."""
    begin(recorder)
    file = tmp_path / 'episodes' / '.e1.partial' / 'e1_0.mcap'
    until(recorder, lambda: file.exists() and sum(1 for _ in McapScan(file).messages()) == 3)
    feel(recorder, SECOND + 1)
    until(recorder, lambda: sum(1 for _ in McapScan(file).messages()) == 4)

# SPDX-License-Identifier: Apache-2.0
"""The recorder's logic with real bags on a real disk, and messages made without ROS."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from chef_control import recording
from chef_control.recording import FAILED, IDLE, RECORDING, SEALED, EpisodeRecorder
from chef_task.bag.codec import encoder
from chef_task.bag.definitions import typestore
from chef_task.bag.files import find_episodes
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
    import numpy as np

    values = dict(event=event, episode_id='e1', cell='cell_1', triplet=1, seed=3, tasks=['open'], metadata='{}',
                  policy_version='', steps=0, termination_reason='', success=False, peak_force_n=0.0,
                  returns=np.zeros(0, np.float32))
    return serialised('chef_msgs/msg/EpisodeInfo', stamp, **{**values, **fields})


def image(stamp: int, pixels) -> bytes:
    height, width, _ = pixels.shape
    return serialised('sensor_msgs/msg/Image', stamp, height=height, width=width, encoding='rgb8', is_bigendian=0,
                      step=3 * width, data=pixels.reshape(-1))


def until(recorder: EpisodeRecorder, state: str, deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while recorder.status.state != state:
        assert time.monotonic() < end, recorder.status
        recorder.poll()
        time.sleep(0.005)


@pytest.fixture
def recorder(tmp_path):
    r = EpisodeRecorder(tmp_path / 'episodes', {}, sensors=['/cell_1/wrench'], drain_s=0.3)
    yield r
    r.close()


def begin(r: EpisodeRecorder) -> None:
    r.start('e1')
    r.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 0), SECOND)
    r.message('/cell_1/wrench', 'geometry_msgs/msg/WrenchStamped', wrench(SECOND), SECOND)
    r.step(False, {'/cell_1/wrench': SECOND})


def test_header_stamps_are_read_from_the_bytes():
    assert serialized_stamp_ns(wrench(12 * SECOND + 345)) == 12 * SECOND + 345


def test_an_episode_becomes_one_sealed_bag(recorder, tmp_path):
    begin(recorder)
    recorder.step(True, {'/cell_1/wrench': SECOND})
    recorder.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 1, termination_reason='time_limit'),
                     SECOND)
    recorder.end('e1', 'time_limit')
    until(recorder, SEALED)
    assert recorder.status.messages == 3
    assert [Path(p).name for p in find_episodes(tmp_path / 'episodes')] == ['e1']


def test_the_seal_waits_for_what_the_last_step_names(recorder):
    begin(recorder)
    late = 2 * SECOND
    recorder.step(True, {'/cell_1/wrench': late})
    recorder.end('e1', 'time_limit')
    for _ in range(5):
        recorder.poll()
    time.sleep(0.05)
    assert recorder.status.state != SEALED
    recorder.message('/cell_1/wrench', 'geometry_msgs/msg/WrenchStamped', wrench(late), late)
    until(recorder, SEALED)
    assert recorder.status.messages == 3


def test_a_sample_that_never_comes_does_not_keep_the_bag_open(recorder):
    begin(recorder)
    recorder.step(True, {'/cell_1/wrench': 9 * SECOND})
    recorder.end('e1', 'stale_sensor:wrench')
    until(recorder, SEALED)


def test_an_episode_whose_end_never_came_is_sealed_as_lost(recorder, tmp_path):
    begin(recorder)
    recorder.seal_now('episode_node_lost')
    until(recorder, SEALED)
    assert Episode.open(tmp_path / 'episodes' / 'e1').record.termination_reason == 'episode_node_lost'


def test_a_full_disk_is_a_failure_in_words(recorder, monkeypatch):
    monkeypatch.setattr(recording, 'free_bytes', lambda path: 10 << 20)
    recorder.start('e1')
    until(recorder, FAILED)
    assert '10 MiB free' in recorder.status.error


def test_a_bag_that_exists_is_never_overwritten(recorder, tmp_path):
    (tmp_path / 'episodes' / 'e1').mkdir(parents=True)
    recorder.start('e1')
    until(recorder, FAILED)
    assert 'exists already' in recorder.status.error


def test_the_newest_samples_from_before_the_start_are_in_the_bag(recorder, tmp_path):
    for k in range(5):
        recorder.message('/cell_1/wrench', 'geometry_msgs/msg/WrenchStamped', wrench(SECOND - 5 + k))
    begin(recorder)
    recorder.seal_now('time_limit')
    until(recorder, SEALED)
    stamps = Episode.open(tmp_path / 'episodes' / 'e1').series('wrench').stamps
    assert stamps.tolist() == [SECOND - 2, SECOND - 1, SECOND]


def test_an_episode_that_never_had_a_step_leaves_nothing(recorder, tmp_path):
    recorder.start('e1')
    recorder.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 0))
    until(recorder, RECORDING)
    recorder.end('e1', 'cancelled')
    until(recorder, IDLE)
    assert not list((tmp_path / 'episodes').iterdir())


def test_samples_that_steps_name_and_the_bag_lacks_are_counted(recorder):
    begin(recorder)
    recorder.step(False, {'/cell_1/wrench': 3 * SECOND})
    recorder.step(True, {'/cell_1/wrench': SECOND})
    recorder.end('e1', 'time_limit')
    until(recorder, SEALED)
    assert recorder.status.dropped == 1


def test_an_end_that_overtakes_its_step_waits_for_it(recorder):
    recorder.start('e1')
    recorder.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 0), SECOND)
    recorder.end('e1', 'policy_invalid')
    recorder.poll()
    recorder.step(True, {})
    until(recorder, SEALED)


def test_a_new_start_seals_the_old_and_keeps_its_own_state(recorder, tmp_path):
    begin(recorder)
    until(recorder, RECORDING)
    recorder.start('e2')
    until(recorder, RECORDING)
    assert recorder.status.episode_id == 'e2'
    assert [Path(p).name for p in find_episodes(tmp_path / 'episodes')] == ['e1']


def test_any_error_of_the_writer_is_told(recorder, monkeypatch):
    monkeypatch.setattr(recording, 'BagWriter', lambda *args, **kwargs: 1 / 0)
    recorder.start('e1')
    until(recorder, FAILED)
    assert 'ZeroDivisionError' in recorder.status.error


def test_images_are_encoded_on_their_way_and_all_else_is_counted_as_it_was_sent(tmp_path):
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    topic = '/cell_1/basket_front_left/image'
    recorder = EpisodeRecorder(tmp_path / 'episodes', {}, sensors=[topic], drain_s=0.3, transform=encoder('png'))
    try:
        recorder.message(topic, 'sensor_msgs/msg/Image', image(SECOND, pixels), SECOND)     # before the start
        recorder.start('e1')
        recorder.message('/cell_1/episode', 'chef_msgs/msg/EpisodeInfo', info(SECOND, 0), SECOND)
        recorder.message(topic, 'sensor_msgs/msg/Image', image(2 * SECOND, pixels), 2 * SECOND)
        recorder.step(True, {topic: 2 * SECOND})
        recorder.end('e1', 'time_limit')
        until(recorder, SEALED)
    finally:
        recorder.close()
    assert recorder.status.messages == 3 and recorder.status.dropped == 0
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

# SPDX-License-Identifier: Apache-2.0
"""The main job: collect, record, learn, swap; and what its bags hold."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml

from chef_task.bag.reader import Episode, recompute_rewards
from chef_task.observation import History, features
from chef_task.spaces import CAMERAS, CONTROL_PERIOD_NS


def test_the_run_ends_well_and_says_what_it_did(collected):
    assert collected.code == 0, collected.text
    assert '4 episodes' in collected.text
    assert re.search(r'ended by: .*time_limit', collected.text)
    assert len(collected.bags) == 4


def test_the_last_episode_is_acted_by_a_newer_policy_than_the_first(collected):
    first, last = (Episode.open(collected.bags[i]).record.policy_version for i in (0, -1))
    assert last > first, collected.text


def test_lockstep_loses_no_step(collected):
    for bag in collected.bags:
        episode = Episode.open(bag)
        steps = episode.steps()
        if episode.record.termination_reason == 'time_limit':
            assert len(steps) == 61
        stamps = [s.stamp for s in steps]
        assert np.all(np.diff(stamps) == CONTROL_PERIOD_NS), bag
        for step in steps:
            assert set(step.stamps.values()) == {step.stamp}


@pytest.mark.parametrize('run', ['collected', 'spied'])
def test_every_stamp_resolves_and_rewards_recompute(run, request):
    for bag in request.getfixturevalue(run).bags:
        episode = Episode.open(bag)
        recorded = np.stack([s.rewards for s in episode.steps()])
        np.testing.assert_array_equal(recompute_rewards(episode), recorded)


def test_bags_open_with_readers_that_are_not_ours(collected):
    from mcap_ros2.reader import read_ros2_messages
    from rosbags.highlevel import AnyReader

    bag = collected.bags[0]
    with AnyReader([bag]) as reader:
        steps = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages() if c.topic.endswith('/step')]
        assert reader.message_count == yaml.safe_load(
            (bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']['message_count']
    others = [m.ros_msg for m in read_ros2_messages(str(next(bag.glob('*.mcap'))), topics=['/cell_1/step'])]
    assert [s.index for s in steps] == [s.index for s in others] == list(range(len(steps)))


def test_the_policy_saw_bit_for_bit_what_the_bag_gives(spied):
    assert spied.code == 0, spied.text
    (bag,) = spied.bags
    seen = np.load(spied.spied / '0.npz')
    history = History('pixels')
    count = 0
    episode = Episode.open(bag)
    assert episode.image_codec == 'png'
    for step, samples in episode.iterate():
        if step.last:
            break
        built = history.push(features(samples, step.last_action))
        assert set(built) == set(seen.files)
        for key, value in built.items():
            live = seen[key][count]
            assert live.dtype == value.dtype and live.shape == value.shape, key
            assert live.tobytes() == value.tobytes(), f'{key} at step {count}'
        count += 1
    assert count == len(seen['joint_angle'])


def test_real_time_episodes_tick_at_20_hz(spied):
    (bag,) = spied.bags
    stamps = np.array([s.stamp for s in Episode.open(bag).steps()])
    # The mean, not the extremes: a noisy machine may delay single ticks, not their schedule.
    assert np.diff(stamps).mean() == pytest.approx(CONTROL_PERIOD_NS, rel=0.05)


def test_the_cameras_show_the_scene(spied):
    (bag,) = spied.bags
    _, samples = next(Episode.open(bag).iterate())
    for camera in CAMERAS:
        image = samples[camera]['image'].astype(int)
        assert image.std() > 10


def test_commands_obey_the_limits(collected):
    episode = Episode.open(collected.bags[0])
    limits = episode.record.metadata['limits']
    bound = np.array(limits['joint_velocity_rad_s']) * 1.001
    commands = [m for _, m in episode.messages('arm/velocity_command')]
    assert commands and all(np.all(np.abs(m.velocity) <= bound) for m in commands)

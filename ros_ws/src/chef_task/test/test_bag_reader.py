# SPDX-License-Identifier: Apache-2.0
import dataclasses
import time

import numpy as np
import pytest
from conftest import STEPS

from chef_task.bag import AuditError, BagError, Episode, find_episodes, read_summary, recompute_rewards
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.rewards import TASKS
from chef_task.spaces import CAMERAS, IMAGE_SHAPE, STREAMS, streams_of


def test_record(pixel_bag):
    episode = Episode.open(pixel_bag)
    r = episode.record
    assert (r.episode_id, r.cell, r.triplet, r.seed) == (pixel_bag.name, 'cell_1', 1, 1)
    assert r.tasks == TASKS and r.policy_version == 'v000001' and r.steps == STEPS
    assert r.termination_reason == 'time_limit' and r.success and r.end_ns > r.start_ns
    assert r.metadata['limits']['force_n'] == 20.0
    assert read_summary(pixel_bag) == r
    force = np.linalg.norm(episode.series('wrench').values['force'], axis=-1)
    assert r.peak_force_n == pytest.approx(force.max())
    steps = episode.steps()
    np.testing.assert_allclose(r.returns, np.sum([s.rewards for s in steps], axis=0), rtol=1e-5)


@pytest.mark.parametrize('kind', ['pixels', 'state'])
def test_every_stamp_of_every_step_resolves(kind, pixel_bag, state_bag):
    episode = Episode.open(pixel_bag if kind == 'pixels' else state_bag)
    assert episode.observation == kind
    pairs = list(episode.iterate())
    assert len(pairs) == episode.record.steps + 1
    for i, (step, samples) in enumerate(pairs):
        assert step.index == i and step.last == (i == len(pairs) - 1)
        assert set(samples) == set(step.stamps) == set(streams_of(kind))
        for name, sample in samples.items():
            assert {k: v.shape for k, v in sample.items()} == STREAMS[name].fields
            assert 0 <= step.stamp - step.stamps[name] < 60_000_000
    for a, b in zip(pairs, pairs[1:]):
        np.testing.assert_array_equal(b[0].last_action, a[0].action)


def test_rewards_from_the_samples_are_the_recorded_ones(pixel_bag, state_bag):
    for bag in (pixel_bag, state_bag):
        episode = Episode.open(bag)
        recorded = np.stack([s.rewards for s in episode.steps()])
        np.testing.assert_array_equal(recompute_rewards(episode), recorded)


def test_samples_are_those_of_the_stamp(pixel_bag):
    episode = Episode.open(pixel_bag)
    frames = dict(episode.images(CAMERAS[0]))
    wrench = episode.series('wrench')
    for step, samples in episode.iterate((CAMERAS[0], 'wrench')):
        assert set(samples) == {CAMERAS[0], 'wrench'}
        np.testing.assert_array_equal(samples[CAMERAS[0]]['image'], frames[step.stamps[CAMERAS[0]]])
        at = np.searchsorted(wrench.stamps, step.stamps['wrench'])
        np.testing.assert_array_equal(samples['wrench']['force'], wrench.values['force'][at])


def test_series_has_the_native_rate(state_bag):
    episode = Episode.open(state_bag)
    series = episode.series('joints')
    assert np.all(np.diff(series.stamps) == 10_000_000)
    assert series.values['position'].shape == (len(series.stamps), 7)
    assert len(episode.series('objects').stamps) < len(series.stamps) / 4
    with pytest.raises(BagError, match='lidar'):
        episode.series('lidar')
    with pytest.raises(BagError, match='basket_back_left'):
        episode.series('basket_back_left')


def test_any_topic_by_its_short_or_full_name(state_bag):
    episode = Episode.open(state_bag)
    actions = list(episode.messages('action'))
    assert len(actions) == 60 and [m.index for _, m in actions] == list(range(60))
    assert [t for t, _ in actions] == [t for t, _ in episode.messages('/cell_1/action')]
    assert episode.has('wrench') and not episode.has('basket_back_left') and not episode.has('no/such')
    with pytest.raises(BagError, match='no/such'):
        list(episode.messages('no/such'))


def test_schedule_matches_the_steps(state_bag):
    episode = Episode.open(state_bag)
    schedule = episode.schedule()
    assert schedule[0][0] == 0 and len(schedule) == 4
    for index, task in schedule:
        assert TASKS[episode.steps()[index].task] == task


def test_a_stamp_without_a_message_is_named(state_bag):
    episode = Episode.open(state_bag)
    step = episode.steps()[3]
    broken = dataclasses.replace(step, stamps={**step.stamps, 'wrench': 12345})
    with pytest.raises(BagError, match=r'step 3: no message of wrench is stamped 12345 ns'):
        episode.samples(broken)


def test_an_episode_without_its_end(tmp_path):
    """The episode node died: the recorder seals with its own reason and what the steps tell."""
    lost = write_synthetic_episode(tmp_path, 3, 40, 'state', end_message=False, reason='episode_node_lost')
    whole = write_synthetic_episode(tmp_path / 'whole', 3, 40, 'state')
    a, b = Episode.open(lost).record, Episode.open(whole).record
    assert a == read_summary(lost)
    assert a.termination_reason == 'episode_node_lost' and a.steps == 40
    assert b.success and not a.success     # only what ran to its time limit succeeds
    assert a.policy_version == b.policy_version
    assert a.peak_force_n == pytest.approx(b.peak_force_n)
    assert a.returns == pytest.approx(b.returns)


def test_an_episode_without_its_end_cannot_have_run_out_of_time(tmp_path):
    with pytest.raises(AuditError, match='END is missing'):
        write_synthetic_episode(tmp_path, 3, 40, 'state', end_message=False, reason='time_limit')
    assert find_episodes(tmp_path) == []


def test_force_stop(tmp_path):
    episode = Episode.open(write_synthetic_episode(tmp_path, 4, 20, 'state', reason='force_limit'))
    assert [s.discount for s in episode.steps()] == [1.0] * 20 + [0.0]
    assert episode.record.peak_force_n == pytest.approx(20.5)


def test_other_cells_and_namespaces(tmp_path):
    path = write_synthetic_episode(tmp_path, 1, 5, 'state', cell='lab/cell_2'.replace('/', '_'))
    episode = Episode.open(path)
    assert episode.topic('joints') == '/lab_cell_2/joint_states' and len(list(episode.iterate())) == 6


def test_the_same_arguments_give_the_same_messages(tmp_path):
    a, b = (write_synthetic_episode(tmp_path / n, 9, 5) for n in 'ab')
    assert (a / f'{a.name}_0.mcap').read_bytes() == (b / f'{b.name}_0.mcap').read_bytes()


def test_find_episodes_in_order_and_without_what_is_not_sealed(tmp_path):
    run = tmp_path / 'run'
    paths = [write_synthetic_episode(run / 'episodes', i, 2, 'state') for i in (3, 1, 2)]
    write_synthetic_episode(run / 'quarantine', 4, 2, 'state')
    (run / 'episodes' / '.x.partial').mkdir()
    (run / 'episodes' / '.x.partial' / 'metadata.yaml').write_text('')
    (run / 'episodes' / 'no_bag').mkdir()
    assert find_episodes(run) == find_episodes(run / 'episodes') == sorted(paths)
    assert find_episodes(paths[0]) == [paths[0]]
    with pytest.raises(BagError, match='no such folder'):
        find_episodes(tmp_path / 'nowhere')


def test_opened_by_the_file_in_it(state_bag):
    assert Episode.open(state_bag / f'{state_bag.name}_0.mcap').record == Episode.open(str(state_bag)).record


def test_other_readers_agree(pixel_bag):
    """The bag is no format of our own: mcap-ros2-support and rosbags' AnyReader see the same."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory
    from rosbags.highlevel import AnyReader

    with open(pixel_bag / f'{pixel_bag.name}_0.mcap', 'rb') as f:
        decoded = {c.topic: m for _, c, _, m in
                   make_reader(f, decoder_factories=[DecoderFactory()]).iter_decoded_messages()}
    with AnyReader([pixel_bag]) as reader:
        other = {c.topic: reader.deserialize(d, c.msgtype) for c, _, d in reader.messages()}
    assert set(decoded) == set(other) == set(Episode.open(pixel_bag).topics())
    step, again = decoded['/cell_1/step'], other['/cell_1/step']
    assert list(step.streams) == list(again.streams) and step.rewards.values == list(again.rewards.values)
    image, again = decoded['/cell_1/basket_back_left/image'], other['/cell_1/basket_back_left/image']
    assert bytes(image.data) == bytes(again.data) and image.width == again.width == 128


def test_reading_keeps_up(tmp_path):
    """100 steps of pixels in well under a second even on a busy machine (400 take 0.3 s on an idle one)."""
    path = write_synthetic_episode(tmp_path, 5, 100)
    Episode.open(path)
    start = time.perf_counter()
    assert sum(1 for _ in Episode.open(path).features()) == 101
    assert time.perf_counter() - start < 2.0


def test_a_synthetic_bag_shows_the_pictures_it_is_given(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (4, len(CAMERAS), *IMAGE_SHAPE), np.uint8)
    bag = write_synthetic_episode(tmp_path, seed=3, steps=3, pictures=pictures)
    for (_, samples), expected in zip(Episode.open(bag).iterate(CAMERAS), pictures, strict=True):
        for camera, picture in zip(CAMERAS, expected, strict=True):
            np.testing.assert_array_equal(samples[camera]['image'], picture)

# SPDX-License-Identifier: Apache-2.0
"""Replay holds what the bags hold, survives damage, and samples what the live policy would have seen."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_learning import replay_store
from chef_learning.replay import Replay, ReplayError, n_step_returns
from chef_learning.replay_images import KINDS, decode, encode
from chef_learning.replay_sets import counts
from chef_learning.replay_store import View
from chef_task import episode_file
from chef_task.bag import Episode
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.observation import FIELDS, History, features, fields_of
from chef_task.spaces import IMAGE_SHAPE


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """Folders with three episodes, of 12, 7 (force stop) and 9 steps, by observation."""
    out = {}
    for observation in ('state', 'pixels'):
        out[observation] = tmp_path_factory.mktemp(observation)
        for seed, (steps, reason) in enumerate(((12, 'time_limit'), (7, 'force_limit'), (9, 'policy_late'))):
            write_synthetic_episode(out[observation], seed, steps, observation, reason=reason)
    return out


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_stacked_features_equal_the_live_ones_bit_for_bit(bags, tmp_path, observation):
    replay = Replay(tmp_path / 'r', observation)
    assert len(replay.sync(bags[observation]).added) == 3 and len(replay) == 12 + 7 + 9
    for path in sorted(bags[observation].iterdir()):
        history = History(observation)
        stored, view = replay.records(path.name), replay._store.view
        first = np.full(len(stored), view.first[view.ids.index(path.name)])
        batch = replay._observe(view, first, np.arange(len(stored)))
        assert list(batch) == [k for k in FIELDS if k in fields_of(observation)]
        for i, (step, samples) in enumerate(Episode.open(path).iterate()):
            live = history.push(features(samples, step.last_action))
            for key, value in live.items():
                assert value.dtype == batch[key].dtype and value.tobytes() == batch[key][i].tobytes(), key
            assert np.array_equal(stored['rewards'][i], step.rewards)
            assert np.array_equal(stored['action'][i], step.action)
            assert (stored['discount'][i], stored['task'][i]) == (step.discount, step.task)


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_a_rebuild_gives_the_same_bytes(bags, tmp_path, observation):
    for name in ('a', 'b'):
        Replay(tmp_path / name, observation).sync(bags[observation])
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b') != {}


def test_samples_are_the_same_after_a_restart_and_in_any_order_of_arrival(bags, tmp_path):
    paths = sorted(bags['state'].iterdir())
    a, b = Replay(tmp_path / 'a', 'state'), Replay(tmp_path / 'b', 'state')
    for path in paths:
        a.append(path)
    for path in reversed(paths):
        b.append(path)
    again = Replay(tmp_path / 'a', 'state')
    batches = [r.sample(np.random.default_rng(3), 32, 5, 0.9) for r in (a, b, again)]
    for other in batches[1:]:
        assert np.array_equal(batches[0].returns, other.returns)
        for key, value in batches[0].observation.items():
            assert np.array_equal(value, other.observation[key])


def test_transitions_follow_the_convention(bags, tmp_path):
    replay = Replay(tmp_path / 'r', 'state')
    replay.sync(bags['state'])
    batch = replay.sample(np.random.default_rng(0), 200, 1, 0.9)
    episodes = [Episode.open(p).steps() for p in sorted(bags['state'].iterdir())]
    actions = {s.action.tobytes(): (steps, i) for steps in episodes for i, s in enumerate(steps[:-1])}
    seen = set()
    for row in range(200):
        steps, i = actions[batch.action[row].tobytes()]
        seen.add((id(steps), i))
        after = steps[i + 1]
        assert np.array_equal(batch.returns[row], after.rewards)
        assert batch.discounts[row] == np.float32(0.9 * after.discount)
        assert np.array_equal(batch.observation['last_action'][row, -1], steps[i].last_action)
        assert np.array_equal(batch.next_observation['last_action'][row, -1], steps[i].action)
    assert len(seen) == 28      # all of them
    assert 0.0 in batch.discounts


def test_n_step_returns_equal_a_loop(rng):
    rewards, discounts = rng.uniform(0, 1, (10, 2)), np.ones(10)
    for end in (1.0, 0.0):
        discounts[-1] = end
        ahead = np.arange(9)[:, None] + np.arange(1, 5)
        rows = np.minimum(ahead, 9)
        out, factors = n_step_returns(rewards[rows], discounts[rows], ahead <= 9, 0.9)
        for t in range(9):
            total, factor = np.zeros(2), 1.0
            for k in range(t + 1, min(t + 4, 9) + 1):
                total += factor * rewards[k]
                factor *= 0.9 * discounts[k]
            np.testing.assert_allclose(out[t], total, rtol=1e-6)
            assert factors[t] == pytest.approx(factor, rel=1e-6)


def test_bad_bags_are_skipped_and_reported_once(bags, tmp_path):
    folder = tmp_path / 'episodes'
    write_synthetic_episode(folder, 0, 5, 'state')
    damaged = write_synthetic_episode(folder, 1, 5, 'state')
    mcap = next(damaged.glob('*.mcap'))
    mcap.write_bytes(mcap.read_bytes()[:2000])
    write_synthetic_episode(folder, 2, 5, 'state', tasks=('a', 'b', 'c', 'd', 'e', 'f'))
    replay = Replay(tmp_path / 'r', 'state')
    report = replay.sync(folder)
    assert len(report.added) == 1 and len(report.skipped) == 2
    assert all('\n' not in line and str(folder) in line for line in report.skipped)
    assert replay.sync(folder).skipped == []
    pixels = Replay(tmp_path / 'p', 'pixels').sync(bags['state'])
    assert not pixels.added and 'without the cameras' in pixels.skipped[0]


def test_what_is_damaged_is_built_anew(bags, tmp_path):
    Replay(tmp_path / 'r', 'pixels').sync(bags['pixels'])
    before = contents(tmp_path / 'r')
    index = before[Path('episodes.jsonl')].splitlines(keepends=True)
    cases = {
        'images.bin': (before[Path('images.bin')][:-1], 2),
        'steps.bin': (before[Path('steps.bin')][:-1], 2),
        'episodes.jsonl': (index[0] + b'garbage\n' + index[2], 1),
        'episodes.jsonl ': (b''.join(index) + index[1][:20], 3),       # a writer that was killed
        'episodes.jsonl  ': (index[0] + index[0] + index[2], 1),
        'steps.bin ': (before[Path('steps.bin')] + b'of a writer that was killed', 3),
        'images.bin ': (before[Path('images.bin')] + b'too', 3),
        'steps.bin  ': (b'', 0),
    }
    for name, (data, left) in cases.items():
        (tmp_path / 'r' / name.strip()).write_bytes(data)
        again = Replay(tmp_path / 'r', 'pixels')
        assert len(again.episodes) == left, name
        assert len(again.sync(bags['pixels']).added) == 3 - left
        assert contents(tmp_path / 'r') == before, name


def test_several_processes_read_while_one_writes(bags, tmp_path):
    paths, folder = sorted(bags['pixels'].iterdir()), tmp_path / 'r'
    with pytest.raises(ReplayError, match='not a replay of this kind'):
        Replay(folder, 'pixels', writable=False)
    writer = Replay(folder, 'pixels')
    writer.append(paths[0])
    code = f'''
import sys, numpy as np
from chef_learning.replay import Replay
replay = Replay({str(folder)!r}, 'pixels', writable=False)
for line in sys.stdin:
    replay.refresh()
    batch = replay.sample(np.random.default_rng(1), 16, 3, 0.9)
    print(len(replay), float(batch.returns.sum()), int(batch.observation['image_basket_back_left'].sum()), flush=True)
'''
    readers = [subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
               for _ in range(2)]
    try:
        for path in (None, *paths[1:]):
            if path:
                writer.append(path)
            batch = writer.sample(np.random.default_rng(1), 16, 3, 0.9)
            images = int(batch.observation['image_basket_back_left'].sum())
            for reader in readers:
                reader.stdin.write('go\n')
                reader.stdin.flush()
                assert reader.stdout.readline() == f'{len(writer)} {float(batch.returns.sum())} {images}\n'
    finally:
        for reader in readers:
            reader.communicate(timeout=30)
    with pytest.raises(ReplayError, match='read only'):
        Replay(folder, 'pixels', writable=False).append(paths[0])


def test_a_batch_is_drawn_while_bags_are_added(bags, tmp_path):
    replay = Replay(tmp_path / 'r', 'pixels')
    paths = sorted(bags['pixels'].iterdir())
    replay.append(paths[0])
    with ThreadPoolExecutor(2) as pool:
        drawn = [pool.submit(replay.sample, np.random.default_rng(i), 8, 3, 0.9) for i in range(20)]
        for path in paths[1:]:
            replay.append(path)
        assert all(len(d.result(60).action) == 8 for d in drawn)
    assert len(replay) == 28


def test_another_format_is_built_anew_but_foreign_files_are_not_touched(bags, tmp_path):
    Replay(tmp_path / 'r', 'state').sync(bags['state'])
    assert len(Replay(tmp_path / 'r', 'pixels')) == 0
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x' / 'thesis.txt').write_text('precious')
    with pytest.raises(ReplayError, match='not a replay'):
        Replay(tmp_path / 'x', 'state')
    assert (tmp_path / 'x' / 'thesis.txt').exists()


def test_a_stop_leaves_nothing_behind(bags, tmp_path):
    replay = Replay(tmp_path / 'r', 'state')
    calls = iter(range(100))
    assert replay.sync(bags['state'], stop=lambda: next(calls) > 3).added == []
    assert all(not data for name, data in contents(tmp_path / 'r').items() if name != Path('format.json'))
    assert len(Replay(tmp_path / 'r', 'state')) == 0


def test_raw_and_compressed_images_are_the_same_whatever_the_threads(bags, tmp_path):
    batches = []
    for kind, threads in (('compressed', 1), ('compressed', 3), ('raw', 1), ('raw', 3)):
        replay = Replay(tmp_path / kind, 'pixels', images=kind, threads=threads)
        replay.sync(bags['pixels'])
        assert not replay.rebuilt
        batches.append(replay.sample(np.random.default_rng(0), 40, 3, 0.9))
    for other in batches[1:]:
        for key, value in batches[0].next_observation.items():
            assert np.array_equal(value, other.next_observation[key])
    assert 'built anew' in Replay(tmp_path / 'raw', 'pixels').rebuilt


@given(st.integers(0, 255), st.integers(0, 2**32), st.booleans())
@settings(max_examples=30, deadline=None)
def test_images_come_back_as_they_were(noise, seed, flat):
    image = np.full(IMAGE_SHAPE, noise, np.uint8)
    if not flat:
        image += np.random.default_rng(seed).integers(0, noise + 1, IMAGE_SHAPE, np.uint8)
    out = np.empty(IMAGE_SHAPE, np.uint8)
    for kind in KINDS:
        data = encode(image, kind)
        decode([data], out[None], kind)
        assert np.array_equal(image, out)
        assert encode(image, kind) == data


@given(st.binary(max_size=400), st.sampled_from(KINDS))
def test_bytes_that_are_no_image_are_a_clear_error(data, kind):
    with pytest.raises(ValueError):
        decode([np.frombuffer(data, np.uint8)], np.empty((1, *IMAGE_SHAPE), np.uint8), kind)


def test_sets_and_shares(tmp_path):
    folder, index = tmp_path / 'episodes', tmp_path / 'r' / 'episodes.jsonl'
    for number, version in enumerate(('v1', 'v1', 'v2', 'v2')):
        write_synthetic_episode(folder, number, 8, 'state', policy_version=version)
    Replay(tmp_path / 'r', 'state').sync(folder)
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    assert [line['policy'] for line in lines] == ['v1', 'v1', 'v2', 'v2']
    for number, line in enumerate(lines):
        line['success'] = number % 2 == 1
        line['reached'] = ['lift'] if number == 0 else []
        line['ended'] = ['lift'] if number == 2 else []
    index.write_text(''.join(json.dumps(line) + '\n' for line in lines))

    def replay(*sets, shares=()):
        return Replay(tmp_path / 'r', 'state', sets=sets, shares=shares)

    assert len(replay('all')) == 32 and len(replay('successful')) == 16
    assert len(replay('policy:v2')) == 16 and len(replay('policy:v2+successful')) == 8
    assert len(replay('policy:v*', 'successful')) == 32     # together: none twice
    mixed = replay('all', 'successful', shares=(0.25, 0.75))
    owner, _ = mixed._sets.draw(np.random.default_rng(0), 400)
    assert len(owner) == 400 and 300 + 30 < (owner % 2 == 1).sum() < 300 + 70       # half of the quarter
    assert len(mixed.sample(np.random.default_rng(0), 30, 1, 0.9).action) == 30
    assert len(replay('newest:3')) == 24 and len(replay('newest:3+policy:v1')) == 16
    assert replay('newest:1')._sets.episodes[0].tolist() == [3]
    assert replay('reached:lift')._sets.episodes[0].tolist() == [0] and len(replay('reached:stack')) == 0
    assert replay('ended:lift')._sets.episodes[0].tolist() == [2]
    nobody = replay('all', 'policy:v3', shares=(0.5, 0.5))
    assert len(nobody) == 0 and nobody.empty_sets == ('policy:v3',) and nobody.transitions == 32
    with pytest.raises(ReplayError, match='replay is empty: policy:v3'):
        nobody.sample(np.random.default_rng(0), 4, 1, 0.9)
    spare = replay('all', 'newest:2', 'reached:stack?', shares=(0.25, 0.25, 0.5))
    assert len(spare) == 48 and not spare.empty_sets    # a set may overlap another
    owner, _ = spare._sets.draw(np.random.default_rng(0), 400)
    assert 200 + 70 < (owner >= 2).sum() < 200 + 130        # the newest and half of the others, each with half
    for sets, shares, match in (((), (), 'at least one'), (('newest:0',), (), 'is none'), (('newest:',), (), 'is none'),
                                (('all?',), (), 'must not end'), (('all?', 'newest:2'), (1, 0), 'must not end'), (('good',), (), "'good' is none"),
                                (('policy:',), (), 'is none'), (('all',), (0.5,), 'sum to 0.5'),
                                (('all',), (0.5, 0.5), '2 numbers for 1')):
        with pytest.raises(ValueError, match=match):
            Replay(tmp_path / 'r', 'state', sets=sets, shares=shares)


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_an_episode_file_gives_the_bytes_that_its_bag_gives(bags, tmp_path, observation):
    of_bags, of_files = (Replay(tmp_path / name, observation) for name in ('bags', 'files'))
    of_bags.sync(bags[observation])
    for path in sorted(bags[observation].iterdir()):
        episode = Episode.open(path)
        episode_file.write(tmp_path / f'{path.name}.npz', episode.record, observation, *zip(*episode.features()))
    assert len(of_files.sync(tmp_path).added) == 3
    assert contents(tmp_path / 'files') == contents(tmp_path / 'bags')


def test_a_step_that_is_not_finite_ends_an_episode_file_too(bags, tmp_path):
    episode = Episode.open(sorted(bags['state'].iterdir())[0])
    steps, features = map(list, zip(*episode.features()))
    features[5] = {**features[5], 'joint_angle': np.full(7, np.nan, np.float32)}
    episode_file.write(tmp_path / 'cut.npz', episode.record, 'state', steps, features)
    replay = Replay(tmp_path / 'r', 'state')
    replay.sync(tmp_path)
    assert len(replay.records('cut')) == 5


def test_index_tells_which_tasks_an_episode_reached(bags, tmp_path):
    replay = Replay(tmp_path / 'r', 'state')
    replay.sync(bags['state'])
    lines = [json.loads(line) for line in (tmp_path / 'r' / 'episodes.jsonl').read_text().splitlines()]
    for line in lines:
        rewards = replay.records(line['id'])['rewards']
        highest, last = rewards.max(axis=0), rewards[-1]
        assert line['reached'] == [name for name, value in zip(replay.tasks, highest) if value > 0.01]
        assert line['ended'] == [name for name, value in zip(replay.tasks, last) if value > 0.5]
    assert any(line['reached'] for line in lines) and any(line['ended'] for line in lines)


def test_sets_are_found_once_for_many_bags(bags, tmp_path, monkeypatch):
    """Adding bags one by one must not cost more the more there are."""
    made = []
    monkeypatch.setattr(replay_store, 'View', lambda *args: made.append(args) or View(*args))
    replay = Replay(tmp_path / 'r', 'state')
    replay.sync(bags['state'])
    assert not made
    for seed in range(3):
        replay.sample(np.random.default_rng(seed), 4, 1, 0.9)
    assert len(made) == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 500))
def test_every_set_gets_its_share(weights, size):
    shares = np.array(weights) / sum(weights)
    got = counts(shares, size)
    assert got.sum() == size and (np.abs(got - shares * size) <= 1).all()


def test_files_that_shrink_after_they_were_opened_are_one_line(bags, tmp_path):
    Replay(tmp_path / 'r', 'state').sync(bags['state'])
    replay = Replay(tmp_path / 'r', 'state')
    os.truncate(tmp_path / 'r' / 'steps.bin', 100)
    with pytest.raises(ReplayError, match='r: damaged: mmap length'):
        replay.sample(np.random.default_rng(0), 4, 1, 0.9)


def test_an_empty_replay_says_so(tmp_path):
    with pytest.raises(ReplayError, match='empty'):
        Replay(tmp_path / 'r', 'state').sample(np.random.default_rng(0), 1, 1, 0.9)


def test_an_image_of_another_size_is_not_even_decoded(bags, tmp_path):
    """A head may promise gigabytes."""
    replay = Replay(tmp_path / 'replay', 'pixels')
    replay.sync(bags['pixels'])
    del replay
    blob = tmp_path / 'replay' / 'images.bin'
    bomb = zstandard.ZstdCompressor().compress(bytes(10**8))
    data = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(bomb + data[len(bomb):])
    with pytest.raises(ReplayError, match='an image cannot be read'):
        Replay(tmp_path / 'replay', 'pixels').sample(np.random.default_rng(0), 200, 1, 0.9)

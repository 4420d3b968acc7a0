# SPDX-License-Identifier: Apache-2.0
"""Replay holds what the bags hold, survives damage, and samples what the live policy would have seen."""

import numpy as np
import pytest

from chef_learning.replay import Replay, ReplayError, n_step_returns
from chef_learning.replay_format import Layout, StoredEpisode
from chef_task.bag import Episode
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.observation import FIELDS, History, features, fields_of


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
        stored = replay._episode(path.name)
        batch = replay._observe(stored, np.arange(stored.transitions + 1))
        assert list(batch) == [k for k in FIELDS if k in fields_of(observation)]
        for i, (step, samples) in enumerate(Episode.open(path).iterate()):
            live = history.push(features(samples, step.last_action))
            for key, value in live.items():
                assert value.dtype == batch[key].dtype and value.tobytes() == batch[key][i].tobytes(), key
            assert np.array_equal(stored.steps['rewards'][i], step.rewards)
            assert np.array_equal(stored.steps['action'][i], step.action)
            assert (stored.steps['discount'][i], stored.steps['task'][i]) == (step.discount, step.task)


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_a_rebuild_gives_the_same_bytes(bags, tmp_path, observation):
    for name in ('a', 'b'):
        Replay(tmp_path / name, observation).sync(bags[observation])
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b') != {}


def test_samples_are_the_same_after_a_restart_and_in_any_order_of_arrival(bags, tmp_path):
    paths = sorted(bags['state'].iterdir())
    a, b = Replay(tmp_path / 'a', 'state'), Replay(tmp_path / 'b', 'state', open_episodes=1)
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
        out, factors = n_step_returns(rewards, discounts, np.arange(9), 4, 0.9)
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


def test_damaged_episodes_are_built_anew(bags, tmp_path):
    replay = Replay(tmp_path / 'r', 'pixels')
    replay.sync(bags['pixels'])
    before = contents(tmp_path / 'r')
    first, second, third = (tmp_path / 'r' / i for i in replay.episodes)
    blob = (first / 'images.bin').read_bytes()
    (first / 'images.bin').write_bytes(blob[:-1])
    (second / 'steps.npy').write_bytes(b'garbage')
    third.rename(third.with_name(f'.{third.name}.partial'))
    again = Replay(tmp_path / 'r', 'pixels')
    assert len(again) == 0 and len(again.sync(bags['pixels']).added) == 3
    assert contents(tmp_path / 'r') == before


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
    assert [p.name for p in (tmp_path / 'r').iterdir()] == ['format.json']


def test_open_episodes_are_bounded(bags, tmp_path):
    replay = Replay(tmp_path / 'r', 'state', open_episodes=2)
    replay.sync(bags['state'])
    replay.sample(np.random.default_rng(0), 100, 1, 0.9)
    assert len(replay._open) == 2 and all(isinstance(e, StoredEpisode) for e in replay._open.values())


def test_an_empty_replay_says_so(tmp_path):
    with pytest.raises(ReplayError, match='empty'):
        Replay(tmp_path / 'r', 'state').sample(np.random.default_rng(0), 1, 1, 0.9)


@pytest.mark.parametrize('size', [30_000, 129, 0])
def test_an_image_of_another_size_is_not_even_decoded(bags, tmp_path, size):
    """The head of a PNG may promise gigabytes, under a right checksum."""
    import zlib
    replay = Replay(tmp_path / 'replay', 'pixels')
    replay.sync(bags['pixels'])
    blob = next((tmp_path / 'replay').glob('*/images.bin'))
    data = bytearray(blob.read_bytes())
    data[16:24] = size.to_bytes(4, 'big') * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, 'big')
    blob.unlink()
    blob.write_bytes(data)
    stored = StoredEpisode(blob.parent, Layout('pixels'))
    with pytest.raises(ReplayError, match='step 0'):
        stored.image(0, 0)
    assert stored.image(1, 0).shape == (128, 128, 3)

# SPDX-License-Identifier: Apache-2.0
"""Episodes in one file: what is written comes back, and what is damaged is one line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_task import episode_file
from chef_task.episode_file import EpisodeFile, EpisodeFileError
from chef_task.observation import fields_of
from chef_task.records import EpisodeRecord, StepRecord
from chef_task.rewards import TASKS
from chef_task.spaces import streams_of


def make(path, count=5, seed=0):
    rng = np.random.default_rng(seed)
    action, steps, features = np.zeros(5, np.float32), [], []
    for k in range(count):
        last, last_action = k == count - 1, action
        action = np.zeros(5, np.float32) if last else rng.uniform(-1, 1, 5).astype(np.float32)
        stamp = 1_000_000_000 + 50_000_000 * k
        steps.append(StepRecord(stamp, k, dict.fromkeys(streams_of('state'), stamp), last_action, action, k % 6, 'v1',
                                rng.random(6).astype(np.float32), 0.0 if last else 1.0, last))
        features.append({n: rng.normal(size=f.shape).astype(np.float32) for n, f in fields_of('state').items()}
                        | {'last_action': last_action})
    record = EpisodeRecord('sim_1', 'simulated', 2, 7, TASKS, 'v1', count - 1, 'force_limit:21.0 N', False, 21.0,
                           (1.0,) * 6, steps[0].stamp, steps[-1].stamp, {'physics': 'fast'})
    episode_file.write(path, record, 'state', steps, features)
    return record, steps, features


def test_what_is_written_comes_back(tmp_path):
    record, steps, features = make(tmp_path / 'sim_1.npz')
    assert episode_file.find(tmp_path) == [tmp_path / 'sim_1.npz']
    episode = EpisodeFile(tmp_path / 'sim_1.npz')
    assert episode.record == record and episode.observation == 'state'
    for (step, seen), wanted, given_ in zip(episode.features(), steps, features, strict=True):
        assert (step.stamp, step.index, step.stamps, step.task, step.discount, step.last) == (
            wanted.stamp, wanted.index, wanted.stamps, wanted.task, wanted.discount, wanted.last)
        for name in ('action', 'last_action', 'rewards'):
            np.testing.assert_array_equal(getattr(step, name), getattr(wanted, name))
        assert set(seen) == set(given_)
        for key in seen:
            np.testing.assert_array_equal(seen[key], given_[key])


def test_the_same_episode_gives_the_same_bytes(tmp_path):
    make(tmp_path / 'a.npz')
    make(tmp_path / 'b.npz')
    assert (tmp_path / 'a.npz').read_bytes() == (tmp_path / 'b.npz').read_bytes()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_one_error_or_the_same_episode(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('damaged')
    record, *_ = make(folder / 'sim_1.npz')
    content = bytearray((folder / 'sim_1.npz').read_bytes())
    if data.draw(st.booleans()):
        content = content[:data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / 'sim_1.npz').write_bytes(content)
    try:
        episode = EpisodeFile(folder / 'sim_1.npz')
        assert len(list(episode.features())) == episode.record.steps + 1
    except EpisodeFileError as e:
        assert str(folder) in str(e) and '\n' not in str(e)


def test_a_missing_folder_holds_none_and_a_bag_is_none(tmp_path):
    assert episode_file.find(tmp_path / 'none') == []
    (tmp_path / 'x.npz').write_bytes(b'no zip')
    with pytest.raises(EpisodeFileError, match='x.npz'):
        EpisodeFile(tmp_path / 'x.npz')

# SPDX-License-Identifier: Apache-2.0
"""Batches that processes draw are those that would have been drawn here, and what goes wrong there is told here."""

import os
import signal
from functools import partial

import numpy as np
import pytest
import torch
from conftest import small_config
from test_run_learner import losses

from chef_learning.packed import pack, views
from chef_learning.readers import Draw, Readers
from chef_learning.replay import Replay, ReplayError
from chef_learning.run_learner import RunLearner
from chef_learning.tasks import choose
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.rewards import TASKS

WAIT_S = 60


@pytest.fixture
def readers():
    made = []

    def make(*args):
        made.append(Readers(*args))
        return made[-1]
    yield make
    for one in made:
        one.close()


def filled(folder, observation='state', **options):
    """What opens a replay of two episodes, and the replay, open."""
    for seed in range(2):
        write_synthetic_episode(folder / 'episodes', seed, 12, observation)
    opener = partial(Replay, folder / 'replay', observation, **options)
    replay = opener()
    replay.sync(folder / 'episodes')
    return partial(opener, writable=False), replay


def assert_same(a, b):
    for name in ('action', 'returns', 'discounts'):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for one, other in ((a.observation, b.observation), (a.next_observation, b.next_observation)):
        assert list(one) == list(other)
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize('observation, part', [('state', None), ('pixels', None), ('pixels', slice(2, 5))])
def test_batches_are_those_that_would_be_drawn_here_in_their_order(tmp_path, readers, observation, part):
    opener, replay = filled(tmp_path, observation, rewards=choose('reach_grasp, lift', TASKS)[1])
    draw = Draw(7, 3, 0.9, part)
    two = readers(opener, replay, draw, 2, 3)
    asked, taken = 0, 0
    while taken < 8:
        while asked < taken + 3:
            two.ask([5, asked], 2)
            asked += 1
        expected = draw.sample(replay, np.random.default_rng([5, taken]))
        assert len(expected.action) == (7 if part is None else 3)
        got = two.take(WAIT_S)
        assert_same(got.batch, expected)
        for whole, layout in ((got.bytes, got.layout), pack(expected)):
            assert_same(views(torch.from_numpy(whole), layout).each(torch.Tensor.numpy), expected)
        taken += 1


def test_a_batch_stays_until_the_next_is_taken(tmp_path, readers):
    opener, replay = filled(tmp_path)
    draw = Draw(5, 1, 0.9)
    one = readers(opener, replay, draw, 1, 2)
    for k in range(2):
        one.ask([k], 2)
    first = one.take(WAIT_S).batch
    one.ask([2], 2)
    assert one._pipes[0].poll(WAIT_S)       # the next is drawn
    assert_same(first, draw.sample(replay, np.random.default_rng([0])))
    with pytest.raises(ValueError, match='asked for and not taken'):
        one.ask([3], 2)


def test_episodes_that_came_since_are_drawn_from(tmp_path, readers):
    opener, replay = filled(tmp_path)
    draw = Draw(64, 1, 0.9)
    one = readers(opener, replay, draw, 1, 1)
    one.ask([0], 2)
    one.take(WAIT_S)
    write_synthetic_episode(tmp_path / 'episodes', 7, 12, 'state')
    replay.sync(tmp_path / 'episodes')
    one.ask([1], 3)
    assert_same(one.take(WAIT_S).batch, draw.sample(replay, np.random.default_rng([1])))


def test_what_goes_wrong_there_is_told_here(tmp_path, readers):
    opener, replay = filled(tmp_path, 'pixels')
    one = readers(opener, replay, Draw(4, 1, 0.9), 1, 2)
    with pytest.raises(ValueError, match='nothing was asked for'):
        one.take()
    os.truncate(tmp_path / 'replay' / 'images.bin', 0)
    one.ask([0], 2)
    with pytest.raises(ReplayError, match='replay is empty'):
        one.take(WAIT_S)
    os.kill(one._processes[0].pid, signal.SIGSTOP)
    one.ask([0], 2)
    with pytest.raises(TimeoutError, match='no batch was drawn within 0.01 s'):
        one.take(0.01)
    one.ask([0], 2)
    os.kill(one._processes[0].pid, signal.SIGKILL)
    with pytest.raises(ReplayError, match='a process that draws batches is gone .*exit status -9'):
        one.take(WAIT_S)


def test_an_empty_replay_has_no_readers(tmp_path):
    opener = partial(Replay, tmp_path / 'replay', 'state')
    with pytest.raises(ReplayError, match='empty'):
        Readers(opener, opener(), Draw(4, 1, 0.9), 1, 1)


def test_a_learner_with_readers_learns_the_same(tmp_path):
    results = []
    for count in (0, 2):
        folder = tmp_path / str(count)
        for seed in range(2):
            write_synthetic_episode(folder / 'episodes', seed, 12, 'state')
        config = small_config(replay={'min_transitions': 1, 'readers': count}, metrics_period=1)
        with RunLearner(config, folder, seed=3) as learner:
            learner.sync()
            while learner.updates < 5:
                learner.work()
        results.append(losses(folder))
    assert results[0] == results[1] and len(results[0]) == 5

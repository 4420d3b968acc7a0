# SPDX-License-Identifier: Apache-2.0
"""Batches drawn ahead are those that would have been drawn, errors surface, and the thread ends."""

import threading

import pytest
from conftest import small_config
from test_run_learner import losses

from chef_learning.prefetch import Prefetcher
from chef_learning.replay import ReplayError
from chef_learning.run_learner import RunLearner
from chef_task.bag.synthetic import write_synthetic_episode

WAIT_S = 60


def threads():
    return [t for t in threading.enumerate() if t.name == 'prefetch']


def test_results_come_in_the_order_asked_for_and_ahead():
    begun = [threading.Event() for _ in range(3)]

    def draw(i):
        begun[i].set()
        return 10 * i

    ahead = Prefetcher(draw)
    for i in range(3):
        ahead.ask(i)
    assert begun[2].wait(WAIT_S)        # without anything being taken
    assert [ahead.take(WAIT_S) for _ in range(3)] == [0, 10, 20] and ahead.pending == 0
    with pytest.raises(ValueError, match='nothing'):
        ahead.take()
    assert ahead.close() and not threads()


def test_an_error_is_raised_where_its_result_was_wanted_and_the_thread_goes_on():
    ahead = Prefetcher(lambda x: 1 / x)
    for x in (1, 0, 2):
        ahead.ask(x)
    assert ahead.take(WAIT_S) == 1
    with pytest.raises(ZeroDivisionError):
        ahead.take(WAIT_S)
    assert ahead.take(WAIT_S) == 0.5 and ahead.close()


def test_waits_have_deadlines():
    release, begun = threading.Event(), threading.Event()

    def draw(x):
        begun.set()
        release.wait(WAIT_S)

    ahead = Prefetcher(draw)
    ahead.ask(0)
    assert begun.wait(WAIT_S)
    with pytest.raises(TimeoutError, match='no batch was drawn within 0.01 s'):
        ahead.take(0.01)
    assert not ahead.close(0.01)
    release.set()
    assert ahead.close(WAIT_S)


def test_close_does_not_draw_what_was_asked_for_and_is_no_longer_wanted():
    release, begun, drawn = threading.Event(), threading.Event(), []

    def draw(x):
        begun.set()
        release.wait(WAIT_S)
        drawn.append(x)

    ahead = Prefetcher(draw)
    for x in range(5):
        ahead.ask(x)
    assert begun.wait(WAIT_S)
    assert not ahead.close(0.01)
    release.set()
    assert ahead.close(WAIT_S) and drawn == [0]


def run(folder, prefetch, updates, resume_at=None):
    config = small_config(metrics_period=1, prefetch=prefetch)
    for last in (resume_at, updates) if resume_at else (updates,):
        with RunLearner(config, folder, sync_period_s=float('inf'), publish_period_s=1e9) as learner:
            learner.sync()
            while learner.updates < last:
                learner.work()
            learner.save()
    return losses(folder)


def test_the_same_batches_whatever_is_drawn_ahead_and_wherever_it_is_interrupted(tmp_path):
    for name in 'abcd':
        write_synthetic_episode(tmp_path / name / 'episodes', 0, 12, 'state')
    expected = run(tmp_path / 'a', 0, 9)
    assert len(expected) == 9
    assert run(tmp_path / 'b', 1, 9) == expected
    assert run(tmp_path / 'c', 3, 9) == expected
    assert run(tmp_path / 'd', 3, 9, resume_at=4) == expected
    assert not threads()


def test_damage_that_the_thread_meets_is_an_error_of_work(tmp_path):
    write_synthetic_episode(tmp_path / 'episodes', 0, 12)
    with RunLearner(small_config('pixels'), tmp_path) as learner:
        learner.sync()
        learner.work()
        images = tmp_path / 'replay' / 'images.bin'
        with open(images, 'r+b') as f:      # in place, where it is mapped
            f.write(bytes(images.stat().st_size))
        with pytest.raises(ReplayError, match='damaged') as error:
            for _ in range(20):
                learner.work()
        assert '\n' not in str(error.value)
    assert not threads()

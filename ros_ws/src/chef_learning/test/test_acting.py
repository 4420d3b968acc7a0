# SPDX-License-Identifier: Apache-2.0
"""The policy node's inside, on the messages of made-up bags: it acts on what a tick names, and only that."""

import numpy as np
import pytest
from conftest import random_observation, small_config

from chef_learning.acting import KEEP_NS, PolicySource, SampleCache, TickResponder
from chef_learning.learner import Learner
from chef_learning.policy import PolicyError, RandomPolicy
from chef_learning.policy_files import save_version
from chef_task.bag import Episode
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.messages import stamp_ns
from chef_task.observation import History, features
from chef_task.rewards import TASKS
from chef_task.spaces import streams_of


class Recorder:
    """Keeps what it sees; its actions are all zeros."""

    def __init__(self):
        self.seen = []

    def reset(self):
        pass

    def act(self, observation):
        self.seen.append(observation)
        return np.zeros(5)


@pytest.fixture(scope='module')
def episodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    return {o: Episode.open(write_synthetic_episode(folder / o, 0, 6, o)) for o in ('state', 'pixels')}


def feed(responder, episode):
    for name in responder.streams:
        for _, m in episode.messages(name):
            responder.sample(name, stamp_ns(m.header.stamp), m)


def tick(responder, episode, step):
    return responder.tick(episode.record.episode_id, step.index, step.stamp, step.stamps, step.last_action)


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_sees_what_the_bag_holds(episodes, observation):
    episode, policy, responder = episodes[observation], Recorder(), TickResponder(observation)
    responder.start(policy, episode.record.episode_id)
    feed(responder, episode)
    answers = [tick(responder, episode, s) for s in episode.steps()]
    assert [(a.index, a.stamp, a.version, a.error) for a in answers] == [
        (s.index, s.stamp, 'Recorder', '') for s in episode.steps()]
    history = History(observation)
    for (step, samples), seen in zip(episode.iterate(), policy.seen):
        expected = history.push(features(samples, step.last_action))
        assert {k: v.tobytes() for k, v in seen.items()} == {k: v.tobytes() for k, v in expected.items()}


def test_the_last_missing_sample_brings_the_answer(episodes):
    episode, responder = episodes['state'], TickResponder('state')
    responder.start(RandomPolicy(0), episode.record.episode_id)
    step = episode.steps()[0]
    assert tick(responder, episode, step) is None
    answers = []
    for name in responder.streams:
        for _, m in episode.messages(name):
            answers.append(responder.sample(name, stamp_ns(m.header.stamp), m))
    assert [a.index for a in answers if a is not None] == [0]


@pytest.mark.parametrize('needs', [False, True])
def test_objects_are_only_for_who_needs_them(episodes, needs):
    episode, policy, responder = episodes['pixels'], Recorder(), TickResponder('pixels')
    policy.needs_objects = needs
    responder.start(policy, episode.record.episode_id)
    feed(responder, episode)
    tick(responder, episode, episode.steps()[0])
    assert ('red_pose' in policy.seen[0]) == needs and 'image_basket_back_left' in policy.seen[0]


def test_ticks_of_other_episodes_are_ignored(episodes):
    episode, responder = episodes['state'], TickResponder('state')
    feed(responder, episode)
    step = episode.steps()[0]
    assert tick(responder, episode, step) is None
    responder.start(RandomPolicy(0), 'other')
    assert tick(responder, episode, step) is None
    responder.start(RandomPolicy(0), episode.record.episode_id)
    responder.end()
    assert tick(responder, episode, step) is None


@pytest.mark.parametrize('action, error', [
    ([0.0] * 4, 'shape'), (None, 'shape'), ([0.0, 0, 0, 0, np.inf], 'not finite'),
    ('fast', 'could not convert')])
def test_a_policy_that_fails_is_answered_for(episodes, action, error):
    episode, policy, responder = episodes['state'], Recorder(), TickResponder('state')
    policy.act = lambda observation: action
    responder.start(policy, episode.record.episode_id)
    feed(responder, episode)
    answer = tick(responder, episode, episode.steps()[0])
    assert np.isnan(answer.action).all() and answer.action.shape == (5,) and error in answer.error


@pytest.mark.parametrize('task, error', [(6, 'task 6 does not exist'), (-1, 'task -1'), ('lift', 'invalid literal')])
def test_a_task_that_is_none_is_answered_for(episodes, task, error):
    episode, policy, responder = episodes['state'], Recorder(), TickResponder('state')
    policy.task = task
    responder.start(policy, episode.record.episode_id)
    feed(responder, episode)
    answer = tick(responder, episode, episode.steps()[0])
    assert np.isnan(answer.action).all() and error in answer.error


def test_a_tick_that_leaves_out_a_stream_is_answered_for(episodes):
    episode, responder = episodes['state'], TickResponder('state')
    responder.start(RandomPolicy(0), episode.record.episode_id)
    feed(responder, episode)
    step = episode.steps()[0]
    stamps = {k: v for k, v in step.stamps.items() if k != 'wrench'}
    answer = responder.tick(episode.record.episode_id, 0, step.stamp, stamps, step.last_action)
    assert 'wrench' in answer.error


def test_the_cache_is_bounded_and_survives_time_going_back():
    cache = SampleCache()
    for i in range(1000):
        cache.add(i * 10_000_000, i)
    assert len(cache) == KEEP_NS // 10_000_000 + 1 and cache.get(9_990_000_000) == 999
    cache.add(5, 'restarted')
    assert 5 in cache


def test_the_source_takes_new_versions_and_survives_damaged_ones(tmp_path):
    config = small_config()
    actor = Learner(config).actor
    source, warnings = PolicySource('latest', tmp_path, 'state', seed=1), []
    assert source.policy.version == 'v000000'
    save_version(tmp_path, actor, config, 1, TASKS)
    first = source.refresh(warnings.append)
    assert first.version == 'v000001' and source.refresh(warnings.append) is first
    folder = save_version(tmp_path, actor, config, 2, TASKS)
    (folder / 'policy.safetensors').write_bytes(b'')
    assert source.refresh(warnings.append) is first and source.refresh(warnings.append) is first
    assert len(warnings) == 1 and 'v000002' in warnings[0]
    save_version(tmp_path, actor, config, 3, TASKS)
    third = source.refresh(warnings.append)
    o = {k: v[0].numpy() for k, v in random_observation(np.random.default_rng(0), 1).items()}
    assert third.version == 'v000003' and not np.array_equal(first.act(o), third.act(o))
    with pytest.raises(PolicyError, match='acts from state, this cell offers pixels'):
        PolicySource('latest', tmp_path, 'pixels')
    assert set(TickResponder('pixels').streams) == set(streams_of('pixels'))


class Learns(Recorder):
    """Keeps what it is told of its episodes."""

    def __init__(self):
        super().__init__()
        self.told = []

    def reward(self, value):
        self.told.append(value)

    def end(self):
        self.told.append('end')


def test_a_policy_is_told_what_its_actions_led_to_and_of_episodes_that_no_fault_ended():
    policy, responder = Learns(), TickResponder('state')
    for whole in (True, False):
        responder.start(policy, 'e1')
        for index in range(3):
            responder.step('e1', index, 0.5 * index)
            responder.step('another', index, 9.0)
        responder.end(whole)
        responder.step('e1', 3, 9.0)        # too late
    assert policy.told == [0.5, 1.0, 'end', 0.5, 1.0]
    responder.start(Recorder(), 'e2')       # one that does not care
    responder.step('e2', 1, 0.5)
    responder.end(whole=True)

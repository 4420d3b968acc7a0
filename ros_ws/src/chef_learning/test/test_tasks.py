# SPDX-License-Identifier: Apache-2.0
"""The baselines with one task: its reward, its returns, its policy and who acts with it."""

import numpy as np
import pytest
from conftest import small_config
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from test_policy import one_step

from chef_learning import policy_files
from chef_learning.acting import TickResponder
from chef_learning.checkpoint import CheckpointError
from chef_learning.policy import MAIN, NetworkPolicy, PolicyError, load_policy
from chef_learning.replay import Replay, ReplayError
from chef_learning.run_learner import RunLearner
from chef_learning.tasks import STAGES, choose, composite
from chef_task.bag import Episode
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.rewards import TASKS


def staged(rewards: dict) -> float:
    """The definition, a stage at a time."""
    out = 0.0
    for i, stage in enumerate(STAGES):
        if rewards[stage] > 0.01:
            out = (i + rewards[stage]) / len(STAGES)
    return out


@pytest.mark.parametrize('stages, expected', [
    ([0, 0, 0, 0, 0], 0), ([0.01, 0, 0, 0, 0], 0), ([0.5, 0, 0, 0, 0], 0.1), ([0.5, 0.01, 0, 0, 0], 0.1),
    ([1, 0, 0.2, 0, 0], 0.44), ([0, 0, 0, 1, 0], 0.8), ([1, 1, 1, 1, 1], 1), ([0, 0, 0, 0, 0.5], 0.9),
])
def test_the_staged_reward_by_hand(stages, expected):
    assert composite(np.array(stages, float)).item() == pytest.approx(expected)


@settings(deadline=None)
@given(arrays(np.float32, array_shapes(min_dims=1, max_dims=3).map(lambda s: (*s[:-1], 6)),
              elements=st.floats(0, 1, width=32)))
def test_the_staged_reward_is_its_definition_and_a_reward(rewards):
    names, transform = choose('composite', TASKS)
    out = transform(rewards)
    assert names == ('composite',) and out.shape == (*rewards.shape[:-1], 1) and out.dtype == rewards.dtype
    assert ((0 <= out) & (out <= 1)).all()
    for value, row in zip(out.reshape(-1), rewards.reshape(-1, 6)):
        assert value == pytest.approx(staged(dict(zip(TASKS, row))), abs=1e-6)


def test_what_is_not_recorded_is_named():
    assert choose('all', TASKS) == (TASKS, None)
    assert choose('main', ('x', 'stack_leave'))[1](np.array([[3.0, 4.0]])).tolist() == [[4.0]]
    names, transform = choose('lift, open', TASKS)
    assert names == ('lift', 'open') and transform(np.arange(6.0)).tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match='tasks: lift,lift names one twice'):
        choose('lift,lift', TASKS)
    with pytest.raises(ValueError, match='tasks: lift, mian needs the reward of mian, there are those of open'):
        choose('lift, mian', TASKS)
    for kind in ('main', 'composite'):
        with pytest.raises(ValueError, match=f'tasks: {kind} needs .*stack_leave, there are those of lift, place'):
            choose(kind, ('lift', 'place'))


@pytest.mark.parametrize('kind', ['main', 'composite'])
def test_returns_are_those_of_the_rewards_that_were_made(tmp_path, kind):
    """The same replay folder serves all: what is stored is what was recorded."""
    write_synthetic_episode(tmp_path / 'episodes', 0, 12, 'state')
    whole = Replay(tmp_path / 'replay', 'state')
    whole.sync(tmp_path / 'episodes')
    replay = Replay(tmp_path / 'replay', 'state', rewards=choose(kind, TASKS)[1])
    assert len(replay) == len(whole) == 12 and replay.tasks == TASKS
    steps = [s.rewards for s in Episode.open(next((tmp_path / 'episodes').iterdir())).steps()]
    made = [staged(dict(zip(TASKS, r))) if kind == 'composite' else r[MAIN] for r in steps]
    batch, plain = (r.sample(np.random.default_rng(0), 40, 3, 0.9) for r in (replay, whole))
    assert batch.returns.shape == (40, 1) and batch.returns.dtype == np.float32 and batch.returns.any()
    assert np.array_equal(batch.discounts, plain.discounts)
    chosen = np.sort(np.random.default_rng(0).integers(0, 12, 40))
    expected = [sum(0.9 ** i * made[t + 1 + i] for i in range(3) if t + 1 + i <= 12) for t in chosen]
    np.testing.assert_allclose(batch.returns[:, 0], expected, rtol=1e-5)


@pytest.mark.parametrize('kind, name', [('main', 'stack_leave'), ('composite', 'composite')])
def test_a_policy_of_one_task_is_learned_named_and_acts(tmp_path, kind, name):
    write_synthetic_episode(tmp_path / 'episodes', 0, 12, 'state')
    with RunLearner(small_config(tasks=kind), tmp_path, publish_period_s=0.0) as learner:
        for _ in range(3):
            learner.work()
        learner.save()
    assert policy_files.read_info(tmp_path / 'policies' / 'v000001').tasks == (name,)
    (tmp_path / 'table.json').write_text('{"tasks": 6, "episodes": 1, "table": []}')    # of another policy's schedule
    for evaluate in (False, True):
        policy = load_policy('latest', tmp_path / 'policies', 0, evaluate, tmp_path / 'table.json')
        policy.reset()
        assert policy.act(one_step()).shape == (5,) and policy.task == MAIN and policy.tasks == (name,)
        policy.reward(1.0)
        policy.end()
    assert 'tasks": 6' in (tmp_path / 'table.json').read_text()
    with pytest.raises(CheckpointError, match='other tasks'):
        RunLearner(small_config(), tmp_path)


def test_some_tasks_are_learned_and_recorded_by_the_number_that_the_cell_gives_them(tmp_path):
    write_synthetic_episode(tmp_path / 'episodes', 0, 12, 'state')
    with RunLearner(small_config(tasks='reach_grasp, lift', schedule={'kind': 'sac_u', 'period': 1}), tmp_path,
                    publish_period_s=0.0) as learner:
        for _ in range(3):
            learner.work()
    policy = load_policy('latest', tmp_path / 'policies')
    policy.reset()
    recorded = set()
    for _ in range(30):
        policy.act(one_step())
        recorded.add(policy.task)
    assert recorded == {TASKS.index('reach_grasp'), TASKS.index('lift')}
    alone = NetworkPolicy.load(tmp_path / 'policies' / 'v000001', task='lift')
    alone.act(one_step())
    assert alone.task == TASKS.index('lift')


def test_the_cell_is_told_its_own_number_of_the_task(tmp_path):
    """A Step's task is an index of the bag's tasks, whatever heads the policy has."""
    write_synthetic_episode(tmp_path / 'episodes', 0, 12, 'state')
    with RunLearner(small_config(tasks='main'), tmp_path, publish_period_s=0.0) as learner:
        for _ in range(2):
            learner.work()
    responder = TickResponder('state', decode=lambda stream, message: message)
    episode = Episode.open(next((tmp_path / 'episodes').iterdir()))
    responder.start(load_policy('latest', tmp_path / 'policies'), 'e')
    step, samples = next(iter(episode.iterate()))
    for stream, sample in samples.items():
        assert responder.sample(stream, step.stamps[stream], sample) is None
    answer = responder.tick('e', 0, step.stamp, step.stamps, np.zeros(5, np.float32))
    assert answer.error == '' and answer.task == MAIN


def test_no_learner_starts_without_the_rewards_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr('chef_learning.run_learner.TASKS', ('open', 'lift'))
    with pytest.raises(ReplayError, match='tasks: composite needs') as error:
        RunLearner(small_config(tasks='composite'), tmp_path)
    assert '\n' not in str(error.value)
    monkeypatch.undo()
    RunLearner(small_config(tasks='composite'), tmp_path).close()      # the failed start gave the lock back


def test_evaluation_of_a_policy_without_the_main_task_is_refused(tmp_path):
    from chef_learning.domain import rgb_stacking
    from chef_learning.networks import Actor
    actor = Actor(small_config().network, rgb_stacking('state', tasks=('lift',)))
    folder = policy_files.save_version(tmp_path, actor, small_config(), 1, ('lift',))
    with pytest.raises(PolicyError, match='no head for stack_leave'):
        load_policy(str(folder), tmp_path, evaluate=True)
    policy = load_policy(str(folder), tmp_path)
    policy.act(one_step())
    assert policy.task == TASKS.index('lift')

# SPDX-License-Identifier: Apache-2.0
"""A run's learner: new bags, versions, resumption, one at a time; and `chef train` on top of it."""

import json

import pytest
import yaml
from conftest import SMALL, small_config

from chef_learning import policy_files, train
from chef_learning.checkpoint import CheckpointError
from chef_learning.policy import load_policy
from chef_learning.run_learner import RunLearner, RunLocked
from chef_task.bag.synthetic import write_synthetic_episode


def open_learner(run, **changes):
    config = small_config(metrics_period=2, **changes)
    return RunLearner(config, run, 0, publish_period_s=0.0, sync_period_s=0.0)


def metrics(run):
    return [json.loads(line) for line in (run / 'learner' / 'metrics.jsonl').read_text().splitlines()]


def losses(run):
    return {line['update']: line['critic_loss'] for line in metrics(run)}


def test_learns_from_bags_as_they_come(tmp_path):
    replay = {**SMALL['replay'], 'sets': ['all', 'newest:1'], 'shares': [0.5, 0.5]}
    with open_learner(tmp_path, replay=replay) as learner:
        assert not learner.work() and not learner.ready and learner.version == 'v000000'
        write_synthetic_episode(tmp_path / 'episodes', 0, 10, 'state')
        assert learner.work()
        assert learner.version == 'v000001' and learner.updates == 1      # first one after the first update
        write_synthetic_episode(tmp_path / 'episodes', 1, 10, 'state')
        (tmp_path / 'episodes' / 'broken').mkdir()
        (tmp_path / 'episodes' / 'broken' / 'metadata.yaml').write_text('x')
        for _ in range(2):
            learner.work()
        events = learner.take_events()
        assert len(learner.replay.episodes) == 2
        assert sum(e.startswith('added') for e in events) == 2
        assert sum(e.startswith('skipped') and 'broken' in e for e in events) == 1
        assert learner.take_events() == []
    assert load_policy('latest', tmp_path / 'policies').version == 'v000003'
    assert metrics(tmp_path)[-1]['transitions'] == 20     # in replay, however many sets they are in


def test_resumes_with_the_same_losses(tmp_path):
    for run in ('a', 'b'):
        write_synthetic_episode(tmp_path / run / 'episodes', 0, 12, 'state')
    with open_learner(tmp_path / 'a') as learner:
        for _ in range(12):
            learner.work()
    with open_learner(tmp_path / 'b') as learner:
        for _ in range(5):
            learner.work()
        learner.save()
    with open_learner(tmp_path / 'b') as learner:
        assert 'resumed' in learner.take_events()[0] and learner.version == 'v000005'
        for _ in range(7):
            learner.work()
    a, b = losses(tmp_path / 'a'), losses(tmp_path / 'b')
    assert len(a) == 7 and a == b


def test_new_networks_in_an_old_run_say_from_when_on_they_are_published(tmp_path):
    write_synthetic_episode(tmp_path / 'episodes', 0, 12, 'state')
    with open_learner(tmp_path) as learner:
        for _ in range(3):
            learner.work()
    for path in (tmp_path / 'learner' / 'checkpoints').iterdir():
        path.unlink()
    with open_learner(tmp_path) as learner:
        assert any('nothing before 3 updates, which v000003 has' in e for e in learner.take_events())
        for _ in range(4):
            learner.work()
        assert learner.version == 'v000004'


def test_only_one_learner_a_run_and_no_foreign_checkpoints(tmp_path, monkeypatch):
    write_synthetic_episode(tmp_path / 'episodes', 0, 10, 'state')
    with open_learner(tmp_path) as learner:
        with pytest.raises(RunLocked, match='another learner'):
            open_learner(tmp_path)
        learner.work()
        learner.save()
    with pytest.raises(CheckpointError, match='another network'):
        open_learner(tmp_path, network={'torso': [5]})
    with monkeypatch.context() as changed:
        changed.setattr('chef_learning.encoding.VERSION', 99)
        with pytest.raises(CheckpointError, match='other encoding'):
            open_learner(tmp_path)
    open_learner(tmp_path).close()      # the failed start gave the lock back


def test_a_stop_is_heeded(tmp_path):
    write_synthetic_episode(tmp_path / 'episodes', 0, 10, 'state')
    with RunLearner(small_config(), tmp_path, stop=lambda: True) as learner:
        assert not learner.work() and learner.updates == 0


@pytest.fixture
def settings_file(tmp_path):
    path = tmp_path / 'learner.yaml'
    path.write_text(yaml.safe_dump({**SMALL, 'observation': 'state', 'metrics_period': 1}))
    return path


def test_train(tmp_path, settings_file, capsys):
    run = tmp_path / 'run'
    write_synthetic_episode(run / 'episodes', 0, 10, 'state')
    arguments = [str(run), '--config', str(settings_file), '--updates', '4']
    assert train.main(arguments) == 0
    assert '4 updates' in capsys.readouterr().out
    assert train.main([*arguments[:-1], '6']) == 0        # goes on
    assert list(losses(run / 'offline')) == [1, 2, 3, 4, 5, 6]
    assert policy_files.read_info(run / 'offline' / 'policies' / 'v000004').updates == 6
    assert list((run / 'offline' / 'learner' / 'tensorboard').iterdir())


def test_train_says_what_is_wrong(tmp_path, settings_file, capsys):
    def fails(*arguments):
        assert train.main([*map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.startswith('chef train: ') and error.count('\n') == 1
        return error

    assert 'no such folder' in fails(tmp_path / 'none')
    assert 'updates' in fails(tmp_path, '--updates', 0)
    (tmp_path / 'bad.yaml').write_text('batch: 1')
    assert 'batch' in fails(tmp_path, '--config', tmp_path / 'bad.yaml')
    (tmp_path / 'empty').mkdir()
    assert '0 transitions' in fails(tmp_path / 'empty', '--config', settings_file)

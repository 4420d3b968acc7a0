# SPDX-License-Identifier: Apache-2.0
"""Learning from labels: other rewards, more tasks, and nothing of two versions mixed."""

import json

import numpy as np
import pytest
import yaml
from conftest import SMALL, small_config

from chef_learning import policy_files, train
from chef_learning.checkpoint import CheckpointError
from chef_learning.policy import load_policy
from chef_learning.replay import Replay, ReplayError
from chef_learning.run_learner import RunLearner
from chef_task.bag import Episode, find_episodes
from chef_task.bag.cli import main as bags
from chef_task.bag.labels import Labels
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.observation import fields_of
from chef_task.rewards import TASKS


@pytest.fixture
def run(tmp_path):
    """A run of two episodes with labels `six` (as recorded) and `seven`, whose last is the height of red."""
    folder = tmp_path / 'run'
    for seed in range(2):
        write_synthetic_episode(folder / 'episodes', seed, 8, 'state')
    (tmp_path / 'task.py').write_text("def height(step):\n    return min(1.0, max(0.0, step['red'][2]))\n")
    relabel(folder)
    return folder


def relabel(folder):
    assert bags(['relabel', str(folder), '--name', 'six']) == 0
    assert bags(['relabel', str(folder), '--name', 'seven', '--task', f'{folder.parent / "task.py"}:height']) == 0


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}


def test_replay_holds_the_labels_and_is_built_anew_for_others(run, tmp_path):
    seven = Labels.find('seven', run)
    replay = Replay(tmp_path / 'r', 'state', labels=seven)
    assert len(replay.sync(run).added) == 2 and replay.tasks == (*TASKS, 'height')
    for path in find_episodes(run):
        assert np.array_equal(replay.records(path.name)['rewards'], seven.read(Episode.open(path)))
    assert replay.sample(np.random.default_rng(0), 5, 2, 0.9).returns.shape == (5, 7)
    built = contents(tmp_path / 'r')
    again = Replay(tmp_path / 'r', 'state', labels=seven)
    assert len(again) == 16 and contents(tmp_path / 'r') == built        # the same version: kept
    for other in (Labels.find('six', run), None):
        replay = Replay(tmp_path / 'r', 'state', labels=other)
        assert len(replay) == 0 and replay.tasks == TASKS                # emptied, even with the same tasks
        assert len(replay.sync(run).added) == 2


def test_the_recorded_rewards_give_the_same_replay_as_before(run, tmp_path):
    Replay(tmp_path / 'a', 'state').sync(run)
    text = json.loads((tmp_path / 'a' / 'format.json').read_text())
    assert 'labels' not in text and text['tasks'] == list(TASKS)
    Replay(tmp_path / 'b', 'state', labels=Labels.find('six', run)).sync(run)
    a, b = contents(tmp_path / 'a'), contents(tmp_path / 'b')
    assert {k for k in a if a[k] != b[k]} == {type(next(iter(a)))('format.json')}


def test_a_bag_without_labels_waits_for_them(run, tmp_path):
    late = write_synthetic_episode(run / 'episodes', 5, 8, 'state')
    replay = Replay(tmp_path / 'r', 'state', labels=Labels.find('seven', run))
    report = replay.sync(run)
    assert len(report.added) == 2 and report.unlabelled == [late.name] and not report.skipped
    assert replay.sync(run).unlabelled == []            # said once
    relabel(run)
    assert replay.sync(run).added == [late.name]


def test_labels_that_do_not_fit_their_bag_are_skipped(run, tmp_path):
    labels, (first, second) = Labels.find('seven', run), find_episodes(run)
    labels.path(first).write_bytes(labels.path(second).read_bytes())
    labels.path(second).write_bytes(b'garbage')
    report = Replay(tmp_path / 'r', 'state', labels=labels).sync(run)
    assert not report.added and 'another episode' in report.skipped[0] and 'damaged' in report.skipped[1]


def test_bags_of_other_tasks_can_be_learned_from_by_labels(tmp_path):
    write_synthetic_episode(tmp_path / 'episodes', 0, 8, 'state', tasks=('a', 'b', 'c', 'd', 'e', 'f'))
    assert bags(['relabel', str(tmp_path), '--name', 'six']) == 0
    assert not Replay(tmp_path / 'r', 'state').sync(tmp_path).added
    assert len(Replay(tmp_path / 'q', 'state', labels=Labels.find('six', tmp_path)).sync(tmp_path).added) == 1


def open_learner(run, labels):
    config = small_config(metrics_period=1, replay={**SMALL['replay'], 'labels': labels})
    return RunLearner(config, run, 0, publish_period_s=0.0, sync_period_s=0.0)


def test_a_checkpoint_of_other_labels_is_refused(run):
    with open_learner(run, 'six') as learner:
        for _ in range(4):
            learner.work()
        learner.save()
        assert learner.updates > 0
    before = contents(run / 'replay')
    for labels, what in (('', 'labels'), ('seven', 'tasks')):
        with pytest.raises(CheckpointError, match=f'made with other {what}'):
            open_learner(run, labels)
    assert contents(run / 'replay') == before               # a refused start costs nothing
    with open_learner(run, 'six') as learner:
        assert 'resumed' in learner.take_events()[0]
    with pytest.raises(ReplayError, match="has no labels 'eight', but seven, six"):
        open_learner(run, 'eight')


@pytest.fixture
def settings_file(tmp_path):
    path = tmp_path / 'learner.yaml'
    path.write_text(yaml.safe_dump({**SMALL, 'observation': 'state', 'metrics_period': 1}))
    return path


def test_train_with_labels(run, settings_file, capsys):
    """From bags to a policy with a head for the new task, whose metrics have its name."""
    unlabelled = write_synthetic_episode(run / 'episodes', 5, 8, 'state')
    arguments = [str(run), '--config', str(settings_file), '--updates', '3']
    assert train.main([*arguments, '--labels', 'seven']) == 0
    out = capsys.readouterr().out
    assert f'skipped 1 without labels seven: {unlabelled.name}' in out and '2 episodes, 16 trans' in out
    output = run / 'offline-seven'
    metrics = [json.loads(line) for line in (output / 'learner' / 'metrics.jsonl').read_text().splitlines()]
    assert len(metrics) == 3 and all('critic_loss/height' in m for m in metrics)
    info = policy_files.read_info(output / 'policies' / 'v000001')
    assert info.tasks == (*TASKS, 'height') and info.labels.startswith('seven ')
    policy = load_policy('latest', output / 'policies', evaluate=True)
    policy.reset()
    observation = {k: np.zeros((f.history, *f.shape), np.float32) for k, f in fields_of('state').items()}
    assert policy.act(observation).shape == (5,) and policy.tasks[policy.task] == 'stack_leave'
    assert train.main(arguments) == 0                       # the recorded rewards have a folder of their own
    assert policy_files.read_info(run / 'offline' / 'policies' / 'v000001').labels == ''


def test_train_names_labels_by_their_path_and_says_what_is_wrong(run, settings_file, tmp_path, capsys):
    arguments = [str(run), '--config', str(settings_file), '--updates', '1']
    (run / 'labels').rename(tmp_path / 'elsewhere')         # as `relabel --output` puts them
    assert train.main([*arguments, '--labels', str(tmp_path / 'elsewhere' / 'seven')]) == 0
    assert (run / 'offline-seven' / 'policies' / 'v000001').is_dir()
    capsys.readouterr()
    for words, message in (('seven', 'nor others'), (f'{tmp_path}/none/', 'holds no labels'),
                           ('a b', 'no name of labels')):
        assert train.main([*arguments, '--labels', words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count('\n') == 1
    assert not (run / 'offline-none').exists()

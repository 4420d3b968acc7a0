# SPDX-License-Identifier: Apache-2.0
"""An explore stage that searches: killed anywhere it ends as an unbroken one, and what it stops early does not act."""

import json
import signal

import pytest
import torch
import yaml

from chef_learning.experiment import candidate, cli, stages
from chef_learning.experiment.executors import Ended
from chef_learning.experiment.folder import Experiment, ExperimentError
from chef_learning.experiment.training import trained
from chef_learning.run_learner import RunLearner
from chef_task.bag.synthetic import write_synthetic_episode

LEARNER = {'batch_size': 8, 'compile': 'never', 'metrics_period': 1, 'tasks': 'reach_grasp, lift', 'prefetch': 0,
           'network': {'encoder': 16, 'torso': [16], 'head': [16], 'atoms': 11}, 'mpo': {'action_samples': 4},
           'replay': {'min_transitions': 20}}
EXPLORE = {'updates': 6, 'candidates': {'base': {}, 'bad': {'replay.min_transitions': 100_000}},
           # a policy that is so wide explains no action: the second is far below the median of the base and the first
           'search': {'trials': 2, 'space': {'haptics': [True, False], 'network.torso': [[16], [16, 16]],
                                             'network.initial_std': {'low': 4.0, 'high': 9.0, 'log': True}}},
           'objective': {'task': 'lift', 'held_out': 0.25, 'updates': 4},
           'early_stopping': {'measure': 'log_likelihood', 'every': 2, 'startup': 2}}


class Killed(BaseException):
    """Nobody can catch it."""


class Here:
    """An executor that trains in this process, one after the other."""

    def __init__(self):
        self._ended = []

    def start(self, folder):
        self._ended.append(Ended(folder, candidate.main(folder)))

    def ended(self):
        out, self._ended = self._ended, []
        return out

    def close(self):
        pass


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    before, threads = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}, torch.get_num_threads()
    monkeypatch.setattr(stages, '_executor', lambda work, stage: Here())
    yield
    torch.set_num_threads(threads)
    for number, handler in before.items():
        signal.signal(number, handler)


def make(folder, explore, episodes=8, more=()):
    """With a collect stage that is done."""
    folder.mkdir()
    (folder / 'experiment.yaml').write_text(yaml.safe_dump(
        {'seed': 3, 'learner': LEARNER, 'stages': ['collect', {'explore': explore}, *more]}))
    experiment = Experiment(folder)
    for k in range(episodes):
        write_synthetic_episode(folder / '01_collect' / 't1' / 'episodes', k, 20, 'state')
    experiment.begin(experiment.stages[0])
    experiment.spend(experiment.stages[0], 0.0, True)
    return experiment


def run(experiment):
    work = stages.Work(experiment, experiment.folder / 'cell.yaml', lambda line: None, lambda: False)
    return stages.run(work, experiment.stages[1])


def outcome(experiment):
    """Of all candidates: what they were to learn, their looks and results, without times."""
    out = {}
    for path in experiment.place(experiment.stages[1], 1).glob('*/candidate.json'):
        result = json.loads((path.parent / 'result.json').read_text())
        reports = path.parent / 'reports.jsonl'
        spec = json.loads(path.read_text())
        out[path.parent.name] = (spec['learner'], spec.get('trial'), reports.read_text() if reports.exists() else '',
                                 {k: v for k, v in result.items() if k not in ('seconds', 'finished', 'commit')})
    return out


def test_a_search_that_is_killed_anywhere_ends_as_an_unbroken_one(tmp_path, monkeypatch, capsys):
    whole, broken = make(tmp_path / 'whole', EXPLORE), make(tmp_path / 'broken', EXPLORE)
    assert run(whole)
    work, calls = RunLearner.work, []

    def killed(self):
        calls.append(0)
        if len(calls) in (3, 9):
            raise Killed
        return work(self)
    monkeypatch.setattr(RunLearner, 'work', killed)
    kills = 0
    while True:
        try:
            assert run(broken)
            break
        except Killed:
            kills += 1
    one, other = outcome(broken), outcome(whole)
    assert kills == 2 and list(sorted(one)) == ['bad', 'base', *(f'trial-{k:04d}' for k in range(2))]
    assert one == other
    assert one['bad'][3]['error'].startswith('120 transitions')     # of six episodes: two are held out
    assert one['base'][0]['replay']['sets'] == ['all+learned:0.25'] and one['base'][3]['objective'] > 0
    stopped = [name for name, of in one.items() if 'pruned' in of[3]]
    assert stopped == ['trial-0001'] and 'worse than the median' in one['trial-0001'][3]['pruned']
    assert one['trial-0001'][3]['updates'] == 2 and 'objective' not in one['trial-0001'][3]
    assert set(trained(whole, whole.stages[1], 1)) == set(one) - {'bad', *stopped}
    assert set(trained(whole, whole.stages[1], 1, pruned=True)) == set(one) - {'bad'}
    assert (whole.place(whole.stages[1], 1) / 'study.journal').is_file()

    capsys.readouterr()
    assert cli.status([str(whole.folder)]) == 0
    assert f'{3 - len(stopped)} of 4 candidates, {len(stopped)} stopped early, 1 failed' in capsys.readouterr().out
    assert cli.report([str(whole.folder)]) == 0
    assert 'was stopped early: after 2 updates its log_likelihood' in (whole.folder / 'report.md').read_text()


@pytest.mark.parametrize('explore, message', [
    ({'objective': {'held_out': 0.01, 'task': 'lift'}}, 'no episode is held out: 0.01 of 2 episodes are none'),
    ({'search': {'space': {'tasks': ['main', 'reach_grasp']}, 'trials': 1}, 'objective': {'task': 'lift', 'held_out': 0.5}},
     'it has no policy for lift, only for'),
])
def test_a_candidate_that_cannot_be_measured_says_why(tmp_path, explore, message):
    experiment = make(tmp_path / 'e', {'updates': 1, **explore}, episodes=2)
    with pytest.raises(ExperimentError, match='all candidates of triplet 1 failed'):
        run(experiment)
    (of,) = outcome(experiment).values()
    assert message in of[3]['error'] and '\n' not in of[3]['error']


def test_a_folder_of_another_search_is_one_line(tmp_path):
    experiment = make(tmp_path / 'e', {'updates': 1, 'search': EXPLORE['search'], 'objective': EXPLORE['objective']}, episodes=4)
    trial = experiment.place(experiment.stages[1], 1) / 'trial-0000'
    trial.mkdir(parents=True)
    (trial / 'candidate.json').write_text('{"trial": {"params": {"haptics": "true"}}}')
    with pytest.raises(ExperimentError, match='trial-0000/candidate.json: damaged, or of another search'):
        run(experiment)

# SPDX-License-Identifier: Apache-2.0
"""Stages on cells of the graph: what is started, counted, started again, fetched; with a stand-in for the launcher."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from test_explore import one_process  # noqa: F401  (candidates learn here; test_experiment has those of processes)

from chef_control.orders import Orders
from chef_learning.experiment import cli, executed
from chef_learning.experiment.config import ExperimentConfig
from chef_learning.experiment.folder import Experiment, episodes_in
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.orders import FILE, REST, Follower
from chef_task.storage import Storage, cell_place
from chef_task.storage_sync import BAG_MARK, Down, StorageSync, Up

LEARNER = {'batch_size': 8, 'compile': 'never', 'metrics_period': 1, 'prefetch': 0, 'mpo': {'action_samples': 4},
           'network': {'encoder': 16, 'torso': [16], 'head': [16], 'atoms': 11}, 'replay': {'min_transitions': 20}}
# Records episodes as a graph does, in its namespace; the first cell dies after an episode, and at once when started again.
LAUNCHER = """
import os, sys, time
from pathlib import Path
from chef_task.bag.synthetic import write_synthetic_episode
words = dict(word.split(':=', 1) for word in sys.argv[1:])
run = Path(words['output'])
if 'trials' in words:
    from chef_control.trial_list import TrialList
    trials = TrialList(Path(words['trials']), run)
    assert words['evaluate'] == 'lift'
    for k, trial in enumerate(list(trials.left)):
        if k == 2:
            sys.exit(1)
        number = int(words['namespace'].split('_')[1]) * 100 + trial.number
        bag = write_synthetic_episode(run / 'episodes', seed=trial.seed % 1000, number=number, steps=15, observation='state',
                                      cell=words['namespace'], policy_version=Path(trial.policy).parents[1].name)
        trials.done(bag.name)
    sys.exit(0)
starts = run / 'starts'
with starts.open('a') as f:
    f.write(words['seed'] + '\\n')
count = len(starts.read_text().split())
first = words['namespace'].startswith('cell_1')
if count == 2:
    sys.exit(1)
assert 'ROS_DOMAIN_ID' not in os.environ and words['learner'] == 'false'
for k in range(int(words['episodes'])):
    if first and count == 1 and k == 1:
        sys.exit(1)
    while words['policy'] == 'latest' and k == 1 and not list((run / 'policies').glob('v*')):
        time.sleep(0.05)
    number = int(words['namespace'].split('_')[1]) * 100 + 10 * count + k
    write_synthetic_episode(run / 'episodes', seed=number, steps=15, observation='state', cell=words['namespace'])
"""


def make(folder: Path, **collect) -> Path:
    folder.mkdir()
    stages = [{'collect': {'episodes': 5, 'steps': 15, **collect}}]
    (folder / 'experiment.yaml').write_text(yaml.safe_dump({'seed': 3, 'learner': LEARNER, 'stages': stages}))
    return folder


@pytest.fixture
def launch(tmp_path, monkeypatch):
    (tmp_path / 'launcher.py').write_text(LAUNCHER)
    (tmp_path / 'cell.yaml').write_text('')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
    monkeypatch.setenv('ROS_DOMAIN_ID', '7')
    return sys.executable, str(tmp_path / 'launcher.py')


def test_graphs_are_started_again_until_all_is_there_and_a_learner_is_beside(launch, tmp_path, capsys):
    folder = make(tmp_path / 'experiment', cells='ros', workers=2, publish_s=0.1)
    assert cli.run([str(folder)], str(tmp_path / 'cell.yaml'), launch) == 0
    out = capsys.readouterr().out
    assert '5 of 5 episodes' in out and 'published v000001' in out
    episodes = folder / '01_collect' / 't1' / 'episodes'
    found = episodes_in(episodes)
    assert sorted(p.parent.name for p in found) == ['cell_1_01_collect'] * 3 + ['cell_2_01_collect'] * 2
    assert all('collect' in p.name for p in found)          # by which FINE-TUNE knows them
    starts = folder / '01_collect' / 't1' / 'cells'
    seeds = (starts / 'cell_1_01_collect' / 'starts').read_text().split()
    assert len(seeds) == 3 and len(set(seeds)) == 2         # no scene twice, once there were episodes of it
    assert len((starts / 'cell_2_01_collect' / 'starts').read_text().split()) == 1
    experiment = Experiment(folder)
    assert experiment.finished(experiment.stages[0])
    assert cli.run([str(folder)], str(tmp_path / 'cell.yaml'), launch) == 0
    assert episodes_in(episodes) == found


def test_trials_on_graphs_are_those_of_the_plan_and_what_was_run_is_kept(launch, tmp_path, capsys):
    folder = tmp_path / 'experiment'
    folder.mkdir()
    stages = [{'collect': {'episodes': 3, 'steps': 15, 'cells': 'ros', 'policy': 'random'}},
              {'explore': {'updates': 2, 'jobs': 2, 'grid': {'haptics': [True, False]}}},
              {'execute': {'episodes': 3, 'steps': 15, 'cells': 'ros', 'workers': 2, 'task': 'lift', 'references': False}}]
    (folder / 'experiment.yaml').write_text(yaml.safe_dump({'seed': 3, 'learner': LEARNER, 'stages': stages}))
    assert cli.run([str(folder)], str(tmp_path / 'cell.yaml'), launch) == 0, capsys.readouterr()
    experiment = Experiment(folder)
    found = executed.records(experiment, experiment.stages[2], 1)
    assert {name: sorted(of) for name, of in found.items()} == {'haptics=true': [0, 1, 2], 'haptics=false': [0, 1, 2]}
    for name, of in found.items():
        assert {r.policy_version for r in of.values()} == {name}        # the trial's own policy acted
    assert len(executed.Executed(experiment, experiment.stages[2], 1).summary) == 3
    capsys.readouterr()
    assert cli.status([str(folder)]) == 0
    assert '6 of 6 episodes' in capsys.readouterr().out


def test_a_cell_that_never_works_is_one_line(launch, tmp_path, capsys):
    folder = make(tmp_path / 'experiment', cells='ros', policy='random')
    assert cli.run([str(folder)], str(tmp_path / 'cell.yaml'), ('false',)) == 1
    assert 'cell_1_01_collect: its graph ended with status 1 3 times in a row: see' in capsys.readouterr().err


def test_a_stage_that_is_killed_leaves_no_graph(launch, tmp_path):
    folder = make(tmp_path / 'experiment', cells='ros', policy='random')
    (tmp_path / 'launcher.py').write_text(
        'import os, sys, time\nfrom pathlib import Path\nPath(sys.argv[0]).with_name("pid").write_text(str(os.getpid()))\n'
        'time.sleep(100)\n')
    code = 'import sys; from chef_learning.experiment.cli import run; run([sys.argv[1]], sys.argv[2], tuple(sys.argv[3:]))'
    stage = subprocess.Popen([sys.executable, '-c', code, str(folder), str(tmp_path / 'cell.yaml'), *launch])
    end = time.monotonic() + 60
    while not (tmp_path / 'pid').exists() or not (tmp_path / 'pid').read_text():
        assert time.monotonic() < end and stage.poll() is None
        time.sleep(0.05)
    pid = int((tmp_path / 'pid').read_text())
    stage.kill()
    stage.wait()
    while Path(f'/proc/{pid}').exists() and b'launcher' in Path(f'/proc/{pid}/cmdline').read_bytes():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_external_cells_bring_episodes_by_a_storage_and_take_policies_from_it(tmp_path, capsys):
    folder = make(tmp_path / 'experiment', cells='external', storage=str(tmp_path / 'storage'), publish_s=0.1)
    storage = Storage(tmp_path / 'storage' / 't1')
    run, stop = tmp_path / 'run', threading.Event()

    def cell() -> None:
        """It records the last two episodes when there is a policy."""
        sync = StorageSync(storage, [Up(run / 'episodes', cell_place('collect_1'), BAG_MARK)],
                           [Down('policies', run / 'policies', newest=True)], look_s=0.1)
        for k in range(6):
            while k == 4 and not sync.status.fetched and not stop.is_set():
                sync.round()
            write_synthetic_episode(run / 'episodes', seed=k, steps=15, observation='state', cell='collect_1',
                                    reason='policy_lost' if k == 0 else 'time_limit')
        while not stop.is_set():
            sync.round()
            stop.wait(0.1)
    thread = threading.Thread(target=cell)
    thread.start()
    try:
        assert cli.run([str(folder)], str(tmp_path / 'cell.yaml')) == 0, capsys.readouterr().out
    finally:
        stop.set()
        thread.join(30)
    out = capsys.readouterr().out
    assert 'waits for cells: ./chef launch' in out and '5 of 5 episodes' in out
    assert len(episodes_in(folder / '01_collect' / 't1' / 'episodes' / 'collect_1')) == 6    # one of them a fault's
    assert storage.names('policies')[0] == 'v000001'


def test_trials_on_external_cells_are_those_of_the_plan_though_one_dies_and_one_was_only_cut_off(tmp_path, capsys):
    folder, url = tmp_path / 'experiment', str(tmp_path / 'storage')
    for k in (1, 2):        # what COLLECT's learners would leave; nobody opens it here
        policy = folder / f'0{k}_collect' / 't1' / 'policies' / f'v00000{k}'
        policy.mkdir(parents=True)
        (policy / 'policy.json').write_text(f'{k}')
    collect = {'cells': 'external', 'policy': 'random', 'storage': url, 'steps': 15}
    stages = [{'collect': {'episodes': 3, **collect}}, {'collect': {'episodes': 1, **collect}},
              {'execute': {'episodes': 4, 'steps': 15, 'cells': 'external', 'storage': url, 'task': 'lift', 'silent_s': 1.5}}]
    (folder / 'experiment.yaml').write_text(yaml.safe_dump({'seed': 3, 'learner': LEARNER, 'stages': stages}))
    stop, begun, kinds, faults = threading.Event(), {}, {}, []

    def cell(name: str) -> None:
        """Does what the storage says. b dies within its first trial; c is cut off in its first, and brings it late."""
        storage, run = Storage(f'{url}/t1'), tmp_path / name
        sync = StorageSync(Storage(storage.url), [Up(run / 'episodes', cell_place(name), BAG_MARK)], [])
        follower, orders = Follower(storage, name, run, sign_s=0.2), Orders(run, 100.0)
        while not stop.wait(0.1):
            follower.round()
            if (task := orders.next()) is None:
                sync.round()
                continue
            begun.setdefault(task.number, set()).add(name)
            kinds.setdefault(name, []).append('trial' if task.plan else 'collect')
            count = kinds[name].count('trial')
            if count == 1:      # all have a hand before any dies
                while len([n for n in kinds if 'trial' in kinds[n]]) < 3 and not stop.wait(0.05):
                    follower.round()
            if name == 'b' and count == 1:
                return
            if name == 'c' and count == 1:
                while not begun.get(task.number, set()) - {name} and not stop.wait(0.05):
                    pass
            asked = json.loads(task.about)
            number = 1000 * ord(name) + len(kinds[name])
            fault = name == 'a' and count == 2 and not faults
            bag = write_synthetic_episode(run / 'episodes', seed=task.seed or number, number=number, steps=task.steps,
                                          cell=name, observation='state', asked=asked, policy_version=asked.get('candidate', ''),
                                          reason='policy_lost' if fault else 'time_limit')
            if fault:       # it tries again
                faults.append(bag)
                continue
            orders.done(task, bag.name)
            sync.round()
    threads = [threading.Thread(target=cell, args=(name,)) for name in 'abc']
    [t.start() for t in threads]
    try:
        assert cli.run([str(folder)], str(tmp_path / 'cell.yaml')) == 0, capsys.readouterr()
        end = time.monotonic() + 20
        while not all(f'"{REST}"' in (tmp_path / name / FILE).read_text() for name in 'ac'):
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        stop.set()
        [t.join(30) for t in threads]
    out = capsys.readouterr().out
    assert 'b has been silent for 1.5 s' in out and '8 of 8 trials' in out, out
    experiment = Experiment(folder)
    found = executed.records(experiment, experiment.stages[2], 1)
    assert {name: sorted(of) for name, of in found.items()} == {'01_collect': [0, 1, 2, 3], '02_collect': [0, 1, 2, 3]}
    assert all(r.policy_version == name and r.termination_reason == 'time_limit' for name, of in found.items()
               for r in of.values())
    scenes = [{scene: r.seed for scene, r in of.items()} for of in found.values()]
    assert scenes[0] == scenes[1] and len(set(scenes[0].values())) == 4
    twice = {n: cells for n, cells in begun.items() if n >= 0 and len(cells) > 1}
    assert twice and all(cells & {'b', 'c'} for cells in twice.values())     # only what was in a silent cell's hand
    for k in (1, 2):        # whose episodes they are goes by the stage that asked for them
        bags = episodes_in(folder / f'0{k}_collect' / 't1' / 'episodes')
        assert bags and all(f'_0{k}_collect_' in bag.name for bag in bags)
    capsys.readouterr()
    assert cli.status([str(folder)]) == 0
    assert '8 of 8 episodes' in capsys.readouterr().out
    assert cli.run([str(folder)], str(tmp_path / 'cell.yaml')) == 0          # nothing is done twice


@pytest.mark.parametrize('collect, line', [
    ({'cells': 'external'}, 'stages[0].collect.storage goes with cells: external'),
    ({'storage': 'x'}, 'stages[0].collect.storage goes with cells: external'),
    ({'cells': 'ros', 'policy': 'scripted'}, 'stages[0].collect.policy: scripted acts in simulated cells only'),
    ({'cells': 'mine'}, 'cells must be one of simulated, ros, external'),
])
def test_what_cannot_be_is_one_line(collect, line):
    with pytest.raises(ValueError) as e:
        ExperimentConfig.from_dict({'learner': LEARNER, 'stages': [{'collect': collect}]})
    assert line in str(e.value)

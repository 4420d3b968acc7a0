# SPDX-License-Identifier: Apache-2.0
"""An execute stage whose trials two cells of the real graph run, which nothing but a storage joins to it; one is killed."""

from __future__ import annotations

import json
import os
import signal
import threading

import yaml
from harness import ROOT, Graph, no_process_left

from chef_learning.experiment import executed, stages
from chef_learning.experiment.external import taken
from chef_learning.experiment.folder import Experiment
from chef_task.bag import Episode, find_episodes, read_summary
from chef_task.orders import ORDER, REST, Order
from chef_task.rewards import TASKS
from chef_task.storage import Storage

LEARNER = {'network': {'torso': [16], 'head': [16], 'encoder': 16, 'atoms': 11}}


def make(folder, url) -> Experiment:
    """Two collect stages that are over, with a policy each, and trials of those."""
    from chef_learning.config import LearnerConfig
    from chef_learning.learner import Learner
    from chef_learning.policy_files import save_version

    folder.mkdir()
    asked = [{'collect': {'episodes': 1}}, {'collect': {'episodes': 1}},
              {'execute': {'episodes': 3, 'steps': 60, 'cells': 'external', 'storage': url, 'task': 'lift', 'silent_s': 4}}]
    (folder / 'experiment.yaml').write_text(yaml.safe_dump({'learner': LEARNER, 'stages': asked}))
    experiment = Experiment(folder)
    for stage in experiment.stages[:2]:
        experiment.begin(stage)
        experiment.spend(stage, 0.0, True)
        config = LearnerConfig.from_dict(LEARNER)
        learner, folder = Learner(config, stage.number), experiment.place(stage, 1) / 'policies'
        for _ in range(stage.number):       # so that its last policy tells whose it is
            save_version(folder, learner.actor, config, stage.number, learner.domain.tasks)
    return experiment


def test_two_cells_run_an_execute_stage_by_a_storage_and_one_is_killed(tmp_path):
    url = str(tmp_path / 'storage')
    experiment, said, ended = make(tmp_path / 'experiment', url), [], []
    stage = experiment.stages[2]
    work = stages.Work(experiment, ROOT / 'config' / 'cells' / 'sim.yaml', said.append, lambda: len(ended) > 0)
    thread = threading.Thread(target=lambda: said.append(stages.run(work, stage)))
    storage = Storage(f'{url}/t1')
    storage.create()
    storage.write_note(ORDER, Order(REST, '02_collect').encode())
    cells = {name: Graph(tmp_path / name, namespace=name, storage=storage.url, episodes=100, observation='state', speed='max',
                         physics='fast') for name in ('cell_1', 'cell_2')}
    place = experiment.place(stage, 1)
    try:
        for graph in cells.values():
            graph.wait_for('the cell rests', 120)
        thread.start()
        cells['cell_1'].wait_for(r'episode \S+_cell_1_03_execute_\d+ begins', 60)
        # it has two trials in hand, the first under way: without those the stage cannot end
        os.killpg(cells['cell_1'].process.pid, signal.SIGKILL)
        thread.join(120)
        assert said[-1] is True, (said, cells['cell_2'].text)
        cells['cell_2'].wait_for('the cell rests', 60, len(cells['cell_2'].lines) - 5)
        os.kill(cells['cell_2'].process.pid, signal.SIGINT)
        assert cells['cell_2'].wait(60) == 130
        assert not any(map(no_process_left, cells.values()))
    finally:
        ended.append(True)
        for graph in cells.values():
            graph.__exit__()
    assert any('cell_1 has been silent for 4 s' in line for line in said[:-1]), said
    plan = json.loads((place / 'trials.json').read_text())['trials']
    assert sorted(taken(place)) == list(range(len(plan))) and len(plan) == 6
    found = executed.records(experiment, stage, 1)
    assert {name: sorted(of) for name, of in found.items()} == {f'0{k}_collect': [0, 1, 2] for k in (1, 2)}
    for number, bag in taken(place).items():
        record = read_summary(bag)
        asked = record.metadata['asked']
        assert (asked['trial'], asked['candidate']) == (number, plan[number][0]) and record.steps == 60
        assert record.policy_version == {'01_collect': 'v000001', '02_collect': 'v000002'}[asked['candidate']]
        assert {step.task for step in Episode.open(bag).steps() if not step.last} == {TASKS.index('lift')}
    ran = [read_summary(bag).metadata['asked']['trial'] for bag in find_episodes(tmp_path / 'cell_2' / 'episodes')]
    assert len(ran) == len(set(ran)) >= 3, ran

# SPDX-License-Identifier: Apache-2.0
"""A whole small experiment on the simulated cell, unbroken and killed on the way: the same end."""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from test_explore import one_process  # noqa: F401  (candidates of `cli.run` learn here; those of `start` in processes)

from chef_learning.experiment import cli, executed, report, stages
from chef_learning.experiment.executed import ranking
from chef_learning.experiment.folder import Experiment
from chef_task.bag.either import read_either

CELL = Path(__file__).resolve().parents[4] / 'config' / 'cells' / 'sim.yaml'
pytestmark = pytest.mark.skipif(not CELL.is_file(), reason='not in the repository')
LEARNER = {'batch_size': 8, 'compile': 'never', 'metrics_period': 1, 'tasks': 'reach_grasp, lift', 'prefetch': 0,
           'network': {'encoder': 16, 'torso': [16], 'head': [16], 'atoms': 11, 'gripper': 'categorical'},
           'mpo': {'action_samples': 4, 'gripper_step': 'both'}, 'replay': {'min_transitions': 20}}
STAGES = [{'collect': {'episodes': 4, 'steps': 20, 'policy': 'random'}},
          {'explore': {'updates': 6, 'jobs': 2, 'grid': {'haptics': [True, False]},
                       'candidates': {'bad': {'replay.min_transitions': 100_000}}}},
          {'execute': {'episodes': 2, 'steps': 10, 'task': 'lift'}}, {'finetune': {'updates': 3, 'jobs': 2}},
          {'execute': {'episodes': 2, 'steps': 10, 'task': 'lift'}}]


def make(folder: Path, stages=STAGES) -> Path:
    folder.mkdir()
    (folder / 'experiment.yaml').write_text(yaml.safe_dump({'seed': 3, 'learner': LEARNER, 'stages': stages}))
    return folder


def start(folder: Path) -> subprocess.Popen:
    code = f'import sys; from chef_learning.experiment.cli import run; sys.exit(run(sys.argv[1:], {str(CELL)!r}))'
    return subprocess.Popen([sys.executable, '-c', code, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, start_new_session=True)


def lineage(folder: Path) -> dict:
    """What the stages were made of and gave, without times."""
    out = {}
    for path in sorted(folder.glob('*/stage.json')):
        state = json.loads(path.read_text())
        out[path.parent.name] = state['settings'], state['data'], bool(state['finished'])
    for path in sorted(folder.glob('*/t1/*/result.json')):
        result = json.loads(path.read_text())
        out[str(path.relative_to(folder))] = {k: v for k, v in result.items() if k not in ('seconds', 'finished', 'commit')}
    for path in sorted(folder.glob('*/t1/*/policies/*/policy.json')):
        out[str(path.relative_to(folder))] = json.loads(path.read_text())['sha256']
    return out


def test_killed_at_any_moment_it_ends_as_an_unbroken_one(tmp_path, capsys, monkeypatch):
    whole, broken = make(tmp_path / 'whole'), make(tmp_path / 'broken')
    assert cli.run([str(whole)], str(CELL)) == 0
    for mark in ('01_collect/t1/episodes/*.npz', '02_explore/t1/*/result.json', '03_execute/t1/episodes/*.npz'):
        process, end = start(broken), time.monotonic() + 100
        while not list(broken.glob(mark)):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    process = start(broken)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0, out
    one, other = lineage(broken), lineage(whole)
    assert one.keys() == other.keys()
    assert {k: (one[k], other[k]) for k in one if one[k] != other[k]} == {}
    capsys.readouterr()
    assert cli.run([str(whole)], str(CELL)) == 0      # nothing is done twice
    assert 'learns' not in capsys.readouterr().out

    results = lineage(whole)
    assert results['02_explore/t1/bad/result.json']['error'].startswith('80 transitions to learn from, 100000 are needed')
    assert results['04_finetune/t1/fine-tuned/result.json']['updates'] == 6 + 3
    assert results['04_finetune/t1/from-scratch/result.json']['updates'] == 3
    assert [d['stage'] for d in results['04_finetune'][1]['t1']] == ['01_collect', '03_execute']

    assert cli.status([str(whole)]) == 0
    out = capsys.readouterr().out
    assert out.count('finished') == 5 and '2 of 3 candidates, 1 failed' in out and '4 of 4 episodes' in out
    assert cli.report([str(whole)], str(CELL)) == 0
    page, text = (whole / 'report.html').read_text(), (whole / 'report.md').read_text()
    assert page.count('data:image/png') == 1 and page.count('data:image/jpeg') >= 1     # the curve; trials, simulated once more
    assert not re.search('(src|href)="(?!data:)', page)
    for words in ('| 05_execute: the best |', '77.7 %', '4 of 01_collect', 'not shown to be better', '95 % (2M updates',
                  '| bad | not tried: 80 transitions to learn from', '| 02_explore/haptics='):
        assert words in text, words

    read, ranked = collections.Counter(), collections.Counter()
    monkeypatch.setattr(report, 'read_either', lambda path: read.update([path.name]) or read_either(path))
    monkeypatch.setattr(executed, 'ranking', lambda stage, found: ranked.update([stage.name]) or ranking(stage, found))
    assert cli.report([str(whole)], str(CELL)) == 0 and (whole / 'report.md').read_text() == text
    assert ranked == {'03_execute': 1, '05_execute': 1}
    assert {n for name, n in read.items() if 'execute' in name} == {1} and max(read.values()) <= 2   # COLLECT's last: twice

    damaged = sorted((whole / '05_execute' / 't1' / 'episodes').glob('*.npz'))[0]
    damaged.write_bytes(damaged.read_bytes()[:-200])
    capsys.readouterr()
    assert cli.report([str(whole)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'chef report: {damaged}: not an episode, or damaged') and error.count('\n') == 1
    assert (whole / 'report.md').read_text() == text        # the one that was there stays


def test_what_is_asked_for_wrongly_is_one_line(tmp_path, capsys):
    folder = make(tmp_path / 'e', STAGES[:2])
    assert cli.stage(['explore', str(folder)], str(CELL)) == 2
    assert capsys.readouterr().err == 'chef stage: 02_explore: 01_collect is not finished\n'
    assert cli.run([str(tmp_path / 'none')], str(CELL)) == 2
    assert 'no such folder' in capsys.readouterr().err
    experiment = Experiment(folder)
    lock = experiment.lock()
    assert cli.run([str(folder)], str(CELL)) == 2
    assert 'its stages run already' in capsys.readouterr().err
    os.close(lock)
    experiment.begin(experiment.stages[0])
    (folder / 'experiment.yaml').write_text(yaml.safe_dump({'seed': 4, 'learner': LEARNER, 'stages': STAGES[:2]}))
    assert cli.run([str(folder)], str(CELL)) == 2
    assert 'made with other settings' in capsys.readouterr().err
    (folder / '01_collect' / 'stage.json').write_text('{"x"')
    for command in (cli.status, cli.report):
        assert command([str(folder)]) == 1
        assert f'{folder}/01_collect/stage.json: cannot be read' in capsys.readouterr().err


def test_what_a_stage_has_cost_is_known_though_it_is_killed(tmp_path, monkeypatch):
    class Killed(BaseException):
        """Nothing after it is done, as after SIGKILL."""
    experiment, clock, seen = Experiment(make(tmp_path / 'e', STAGES[:1])), iter(range(0, 10**6, 7)), []
    stage = experiment.stages[0]

    def collect(work, stage):
        for _ in range(5):
            assert not work.stop()
            seen.append(experiment.state(stage)['seconds'])
        raise Killed
    monkeypatch.setattr(stages.time, 'monotonic', lambda: next(clock))
    monkeypatch.setitem(stages._RUN, 'collect', collect)
    with pytest.raises(Killed):
        stages.run(stages.Work(experiment, CELL, print, lambda: False), stage)
    assert seen == [0, 14, 14, 28, 28] and not experiment.finished(stage)

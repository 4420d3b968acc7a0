# SPDX-License-Identifier: Apache-2.0
"""`chef simulate`: the same files for any number of workers, resumed where stopped, and told when one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from chef_learning.replay import Replay
from chef_learning.simulate import main
from chef_task import episode_file
from chef_task.bag.cli import main as main_of_bags
from chef_task.bag.convert import convert
from chef_task.episode_file import EpisodeFile

CELL = Path(__file__).resolve().parents[4] / 'config' / 'cells' / 'sim.yaml'
SHORT = ['--steps', '12', '--cell', str(CELL)]


def simulate(folder: Path, *words: str) -> int:
    return main([str(folder), *SHORT, *words])


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in episode_file.find(folder / 'episodes')}


def start(folder: Path, *words: str, **options) -> subprocess.Popen:
    code = 'import sys; from chef_learning.simulate import main; sys.exit(main())'
    return subprocess.Popen([sys.executable, '-c', code, str(folder), *SHORT, *words], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)


def await_episodes(folder: Path, count: int) -> None:
    end = time.monotonic() + 60
    while len(files(folder)) < count:
        assert time.monotonic() < end, f'{len(files(folder))} episodes'
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """Worker processes; the resource tracker of Python is none."""
    found = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return [int(c) for c in found if 'spawn_main' in Path(f'/proc/{c}/cmdline').read_text()]


def gone(pids: list[int]) -> bool:
    end = time.monotonic() + 20
    while any(Path(f'/proc/{p}').exists() and Path(f'/proc/{p}/stat').read_text().split()[2] != 'Z' for p in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def assert_whole(folder: Path) -> None:
    for path in episode_file.find(folder / 'episodes'):
        EpisodeFile(path)
    assert not list((folder / 'episodes').glob('.*'))


def test_episodes_do_not_depend_on_the_number_of_workers(tmp_path):
    """Nor on where a run was stopped: five at once, and three and then two, are the same files."""
    assert simulate(tmp_path / 'one', '--workers', '1', '--episodes', '5') == 0
    assert simulate(tmp_path / 'three', '--workers', '3', '--episodes', '3') == 0
    assert simulate(tmp_path / 'three', '--workers', '2', '--episodes', '2') == 0
    one, three = files(tmp_path / 'one'), files(tmp_path / 'three')
    assert list(one) == [f'sim_{k:08d}.npz' for k in range(5)]
    assert one == three
    assert len(set(one.values())) == 5
    assert simulate(tmp_path / 'other', '--workers', '1', '--episodes', '1', '--seed', '1') == 0
    assert files(tmp_path / 'other')['sim_00000000.npz'] != one['sim_00000000.npz']


def test_replay_takes_the_files_like_bags(tmp_path):
    assert simulate(tmp_path, '--workers', '1', '--episodes', '2') == 0
    replay = Replay(tmp_path / 'replay', 'state')
    report = replay.sync(tmp_path / 'episodes')
    assert report.added == ['sim_00000000', 'sim_00000001'] and not report.skipped
    assert len(replay) == 24 and not replay.sync(tmp_path / 'episodes').added
    episode = EpisodeFile(tmp_path / 'episodes' / 'sim_00000000.npz')
    batch = replay.sample(np.random.default_rng(0), 64, n_step=1, discount=0.99)
    seen = np.stack([f['red_to_pinch'] for _, f in episode.features()])
    newest = batch.observation['red_to_pinch'][:, -1]
    assert any((newest == row).all(axis=1).any() for row in seen)


def test_a_damaged_file_is_skipped_with_one_line(tmp_path):
    assert simulate(tmp_path, '--workers', '1', '--episodes', '2') == 0
    path = tmp_path / 'episodes' / 'sim_00000000.npz'
    path.write_bytes(path.read_bytes()[:-200])
    report = Replay(tmp_path / 'replay', 'state').sync(tmp_path / 'episodes')
    assert report.added == ['sim_00000001']
    (line,) = report.skipped
    assert str(path) in line and '\n' not in line


@pytest.mark.parametrize('kind', ['state', 'pixels'])
def test_replay_reads_the_same_of_the_bags_that_files_become(tmp_path, kind):
    words = ['--workers', '1', '--episodes', '2', '--policy', 'scripted', '--observation', kind]
    assert simulate(tmp_path / 'run', *words) == 0
    for path in episode_file.find(tmp_path / 'run' / 'episodes'):
        bag, one = convert(path, tmp_path / 'bags'), EpisodeFile(path)
        other = EpisodeFile(convert(bag, tmp_path / 'back'))
        assert contents(other) == contents(one)
        for name in ('seed', 'policy_version', 'termination_reason', 'success', 'returns', 'start_ns', 'end_ns'):
            assert getattr(other.record, name) == getattr(one.record, name)
        assert other.record.metadata.items() >= one.record.metadata.items() >= {'fleet_seed': 0}.items()
    assert main_of_bags(['check', str(tmp_path / 'bags')]) == main_of_bags(['check', str(tmp_path / 'run')]) == 0
    stored = []
    for folder in (tmp_path / 'run' / 'episodes', tmp_path / 'bags'):
        replay = Replay(tmp_path / f'replay_{folder.name}', kind)
        assert len(replay.sync(folder).added) == 2
        stored.append([replay.records(name).tobytes() for name in replay.episodes])
        stored[-1].append((replay.folder / 'images.bin').read_bytes())
    assert stored[0] == stored[1] and bool(stored[0][-1]) == (kind == 'pixels')


def contents(episode: EpisodeFile) -> dict:
    return {k: v.tobytes() for k, v in episode.columns().items()}


def test_a_killed_worker_is_told_and_whole_episodes_stay(tmp_path):
    process = start(tmp_path, '--workers', '2', '--episodes', '100000')
    await_episodes(tmp_path, 3)
    workers = children(process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert f'worker {workers[0]} died (killed by signal 9)' in err and err.count('\n') == 1
    assert gone(workers)
    assert_whole(tmp_path)


def test_ctrl_c_leaves_whole_episodes_and_no_process(tmp_path):
    process = start(tmp_path, '--workers', '2', '--episodes', '100000')
    await_episodes(tmp_path, 3)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and not err, err
    assert 'ended by: ' in out and gone(workers)
    assert_whole(tmp_path)


def test_a_signal_to_the_whole_group_is_an_end_in_good_order(tmp_path):
    process = start(tmp_path, '--workers', '2', '--episodes', '100000', start_new_session=True)
    await_episodes(tmp_path, 2)
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and not err, err
    assert 'ended by: ' in out
    assert_whole(tmp_path)


def test_workers_end_when_their_fleet_is_killed(tmp_path):
    process = start(tmp_path, '--workers', '2', '--episodes', '100000')
    await_episodes(tmp_path, 1)
    workers = children(process.pid)
    process.kill()
    process.communicate(timeout=60)
    assert workers and gone(workers)


@pytest.mark.parametrize('words, text', [
    (['--episodes', '0'], '--episodes must be within'),
    (['--workers', '-1'], '--workers must be within'),
    (['--seed', '-1'], '--seed must be within'),
    (['--updates-per-step', 'nan'], 'must be a finite number'),
    (['--updates-per-step', '1'], 'needs --learner'),
    (['--learner', 'none.yaml'], 'none.yaml'),
    (['--policy', 'no_such_policy'], 'is none of random'),
    (['--policy', 'no_such_module:Class'], 'no module'),
    (['--cell', 'no_cell.yaml'], 'no_cell.yaml'),
])
def test_a_wrong_argument_is_one_line(tmp_path, words, text, capfd):
    assert simulate(tmp_path / 'run', '--workers', '1', '--episodes', '1', *words) == 2
    err = capfd.readouterr().err
    assert text in err and err.count('\n') == 1, err
    assert not files(tmp_path / 'run')


def test_a_policy_that_fails_ends_the_fleet_with_its_words(tmp_path, monkeypatch, capfd):
    (tmp_path / 'broken_policy.py').write_text(
        'class Broken:\n    def reset(self): pass\n    def act(self, o): raise KeyError("what is missing")\n')
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{os.environ.get("PYTHONPATH", "")}')
    monkeypatch.chdir(tmp_path)
    assert simulate(tmp_path / 'run', '--workers', '1', '--episodes', '1', '--policy', 'broken_policy:Broken') == 1
    err = capfd.readouterr().err
    assert "KeyError: 'what is missing'" in err and err.count('\n') == 1


def test_acting_and_learning_keep_in_step(tmp_path, capfd):
    """Both ways round: neither is ahead by more than what two workers do in an episode."""
    config = tmp_path / 'learner.yaml'
    config.write_text('batch_size: 8\nnetwork: {encoder: 8, torso: [8], head: [8], atoms: 5}\n'
                      'replay: {min_transitions: 10}\nschedule: {period: 6}\n')
    run = tmp_path / 'run'
    assert simulate(run, '--workers', '2', '--episodes', '20', '--policy', 'learner', '--learner', str(config),
                    '--updates-per-step', '0.5') == 0
    out = capfd.readouterr().out
    updates = int(next(line for line in out.splitlines() if ' updates; ' in line).split()[0])
    steps, slack = 20 * 12, 2 * 12
    assert 0.5 * (steps - slack - 2 * 12) <= updates <= 0.5 * (steps + slack) + 1
    versions = {EpisodeFile(p).record.policy_version for p in episode_file.find(run / 'episodes')}
    assert 'v000000' in versions
    assert (run / 'policies' / 'v000001').is_dir()

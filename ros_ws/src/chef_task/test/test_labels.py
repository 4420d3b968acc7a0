# SPDX-License-Identifier: Apache-2.0
"""Labels: what is computed, what is refused, and that bags and finished files never change."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chef_task.bag import BagError, Episode, find_episodes
from chef_task.bag import labels as labels_module
from chef_task.bag.cli import main
from chef_task.bag.labels import LabelError, Labels, NoLabels, labels_folder, read_manifest
from chef_task.bag.reward_tasks import RewardSet
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.rewards import TASKS

EXAMPLE = Path(__file__).resolve().parents[4] / 'docs' / 'examples' / 'reward_task.py'
HEIGHT = '''
def height(step):
    return min(1.0, max(0.0, step['red'][2]))
'''


@pytest.fixture(scope='module')
def source_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('source')
    for seed in range(3):
        write_synthetic_episode(folder / 'episodes', seed, 6, 'state')
    return folder


@pytest.fixture
def run(source_run, tmp_path):
    """A run of three short episodes."""
    return shutil.copytree(source_run, tmp_path / 'run')


@pytest.fixture
def task(tmp_path):
    """Writes a file with a reward function and returns the words for --task."""
    def write(text=HEIGHT, name='height'):
        (tmp_path / 'my_task.py').write_text(text)
        return f'{tmp_path / "my_task.py"}:{name}'
    return write


def contents(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).digest()
            for p in sorted(folder.rglob('*')) if p.is_file()}


def relabel(*words):
    return main(['relabel', *map(str, words)])


def fails(capsys, *words):
    """The one line that a refused relabelling prints."""
    assert relabel(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith('chef bags: ') and error.count('\n') == 1 and 'Traceback' not in error
    return error


def test_the_six_anew_and_one_of_ones_own(run, task, capsys):
    before = contents(run / 'episodes')
    assert relabel(run, '--name', 'v1') == 0
    assert relabel(run, '--name', 'v2', '--task', task()) == 0
    assert '3 of 3 episodes labelled' in capsys.readouterr().out
    assert contents(run / 'episodes') == before
    v1, v2 = (Labels.find(v, run) for v in ('v1', 'v2'))
    assert v1.tasks == TASKS and v2.tasks == (*TASKS, 'height')
    assert Labels.find(str(run / 'labels' / 'v2'), run).definition == v2.definition != v1.definition
    for path in find_episodes(run):
        episode = Episode.open(path)
        recorded = np.stack([s.rewards for s in episode.steps()])
        assert np.array_equal(v1.read(episode), recorded)
        rewards = v2.read(episode)
        assert rewards.dtype == np.float32 and np.array_equal(rewards[:, :6], recorded)
        heights = [samples['objects']['poses'][0, 2] for _, samples in episode.iterate(('objects',))]
        assert np.array_equal(rewards[:, 6], np.array(heights, np.float32))
        with np.load(v2.path(path), allow_pickle=False) as data:
            assert data['stamps'].tolist() == [s.stamp for s in episode.steps()]


def test_a_function_of_the_same_name_takes_a_tasks_place(run, task):
    assert relabel(run, '--name', 'v', '--task', task('def lift(step):\n return 0.25\n', 'lift')) == 0
    labels = Labels.find('v', run)
    rewards = labels.read(Episode.open(find_episodes(run)[0]))
    assert labels.tasks == TASKS and (rewards[:, TASKS.index('lift')] == 0.25).all()


def test_what_a_function_is_given(pixel_bag, tmp_path, task):
    run = tmp_path / 'run'
    bag = shutil.copytree(pixel_bag, run / 'episodes' / pixel_bag.name)
    words = task('''
import numpy as np
from dataclasses import dataclass
@dataclass
class Seen: n: int = 0
def all_of_it(step):
    for key in ('red', 'green', 'blue', 'pinch'):
        assert step[key].shape == (3,)
    assert step['action'].shape == step['last_action'].shape == (5,)
    assert isinstance(step['gripper'], float) and isinstance(step['grasp'], int)
    assert abs(step['time_s'] - step['index'] * 0.05) < 1e-9 and step['last'] == (step['index'] == 20)
    assert set(step['samples']) >= {'joints', 'wrench', 'objects', 'basket_back_left'}
    assert step['samples']['basket_back_left']['image'].dtype == np.uint8
    assert 'sound' not in step['samples']
    try:
        step['red'][0] = 0
    except ValueError:
        return np.float32(step['rewards']['open'])
''', 'all_of_it')
    assert relabel(bag, '--name', 'v', '--task', words) == 0
    rewards = Labels.find('v', run).read(Episode.open(bag))
    assert np.array_equal(rewards[:, 6], rewards[:, 0])


@pytest.mark.parametrize('body, message', [
    ("return float('nan')", 'returned nan'), ('return 1.001', 'returned 1.001'), ('return -1e-9', 'returned -1e-09'),
    ('return 10 ** 400', 'returned 1000'), ('return None', 'returned nothing'), ("return '1'", 'returned a str'),
    ('return [1]', 'returned a list'), ('return step["red"]', 'an array of float64, shape [3]'),
    ('return 1j', 'returned a complex'), ('return 1 / 0', 'ZeroDivisionError: division by zero (line 4)'),
    ('return step["purple"]', "KeyError: 'purple'"), ('raise SystemExit(3)', 'SystemExit: 3'),
])
def test_a_wrong_return_names_file_episode_and_step_and_leaves_nothing(run, task, capsys, body, message):
    # the second episode's third step: what was labelled before goes as well
    text = f'''
def wrong(step):
    if step['index'] == 2 and abs(step['red'][0] - {red_x(run)!r}) < 1e-12:
        {body}
    return 0
'''
    error = fails(capsys, run, '--task', task(text, 'wrong'))
    second = find_episodes(run)[1]
    assert f'my_task.py:wrong: {second}: step 2: ' in error and message in error
    assert list((run / 'labels').iterdir()) == []


def red_x(run):
    """Where red lies in the second episode, m."""
    episode = Episode.open(find_episodes(run)[1])
    return float(episode.samples(episode.steps()[2])['objects']['poses'][0, 0])


@pytest.mark.parametrize('text, message', [
    ('def height(', 'SyntaxError'), ('import nothing_of_that_name', 'ModuleNotFoundError'),
    ('height = 3', 'no function'), ('x = 1', 'no function'), ('raise SystemExit', 'SystemExit'),
    ('\0', 'importing it failed')])
def test_files_that_are_no_tasks(run, task, capsys, text, message):
    assert message in fails(capsys, run, '--task', task(text))
    assert not (run / 'labels').exists()


@pytest.mark.parametrize('stream, field, known', [('wrench', 'force', 6), ('objects', 'poses', 0)])
def test_a_sensor_fault_has_no_reward(run, task, monkeypatch, stream, field, known):
    """NaN in the wrench leaves the six, NaN in the poses leaves none; the function never sees it."""
    real = Episode.samples

    def broken(self, step, streams=None):
        out = real(self, step, streams)
        if step.last and stream in out:
            out[stream] = {**out[stream], field: out[stream][field] * np.nan}
        return out
    monkeypatch.setattr(Episode, 'samples', broken)
    assert relabel(run, '--name', 'v', '--task', task()) == 0
    rewards = Labels.find('v', run).read(Episode.open(find_episodes(run)[0]))
    assert np.isfinite(rewards[:-1]).all()
    assert np.isfinite(rewards[-1]).tolist() == [True] * known + [False] * (7 - known)


def test_words_that_are_no_task(run, task, capsys):
    for words in ('height', 'a.txt:height', 'a.py:', 'a.py:3', ':x'):
        assert 'FILE.py:function' in fails(capsys, run, '--task', words)
    assert 'cannot be read' in fails(capsys, run, '--task', '/no/such.py:height')
    assert "two tasks are called 'height'" in fails(capsys, run, '--task', task(), '--task', task())
    for name in ('../x', '.x', 'a b', 'x' * 65):
        assert 'no name of labels' in fails(capsys, run, '--name', name)
    assert 'no such folder' in fails(capsys, run / 'none')


def test_a_version_goes_on_and_is_never_changed(run, task, capsys):
    assert relabel(run, '--name', 'v', '--task', task()) == 0
    before = contents(run / 'labels')
    stamps = {p: p.stat().st_mtime_ns for p in (run / 'labels' / 'v').iterdir()}
    gone = Labels.find('v', run).path(find_episodes(run)[1])
    gone.unlink()
    assert relabel(run, '--name', 'v', '--task', task()) == 0
    assert '1 of 3 episodes labelled, 2 had been' in capsys.readouterr().out
    assert contents(run / 'labels') == before
    assert all(p.stat().st_mtime_ns == t for p, t in stamps.items() if p != gone)
    for words in (['--task', task(HEIGHT + '# other\n')], []):
        assert 'made with other functions' in fails(capsys, run, '--name', 'v', *words)
    assert contents(run / 'labels') == before
    labels, episode = Labels.find('v', run), Episode.open(find_episodes(run)[0])
    with pytest.raises(LabelError, match='never replaced'):
        labels.write(episode, labels.read(episode))


def test_an_interrupted_call_is_gone_on_with(run, task, capsys, monkeypatch):
    """Ctrl-C between the bytes and the name of the second file: the first stays, nothing half-written does."""
    real, calls = labels_module._write, iter(range(10))

    def interrupted(path, data):
        real(path, data)
        if next(calls) == 2:        # version.json, the first bag's, the second's
            raise KeyboardInterrupt
    monkeypatch.setattr(labels_module, '_write', interrupted)
    with pytest.raises(KeyboardInterrupt):
        relabel(run, '--name', 'v', '--task', task())
    first = find_episodes(run)[0].name
    assert sorted(p.name for p in (run / 'labels' / 'v').iterdir()) == [f'{first}.npz', 'version.json']
    monkeypatch.undo()
    assert relabel(run, '--name', 'v', '--task', task()) == 0
    assert '2 of 3 episodes labelled, 1 had been' in capsys.readouterr().out


def test_a_faulty_function_leaves_an_older_version_alone(run, task):
    assert relabel(run, '--name', 'v', '--task', task()) == 0
    before = contents(run / 'labels')
    assert relabel(run, '--name', 'w', '--task', task('def f(step):\n return 2\n', 'f')) == 2
    assert contents(run / 'labels') == before


def test_the_default_name_follows_the_functions(run, task):
    names = [RewardSet().default_name()]
    for text in (HEIGHT, HEIGHT + '#', HEIGHT):
        names.append(RewardSet.load([task(text)]).default_name())
    assert names[0].startswith('rewards-') and names[1].startswith('height-')
    assert len(set(names)) == 3 and names[1] == names[3]


def test_a_damaged_bag_is_counted(run, capsys):
    broken = next(find_episodes(run)[2].glob('*.mcap'))
    broken.write_bytes(broken.read_bytes()[:-100])
    assert relabel(run) == 1
    out = capsys.readouterr().out
    assert out.count('failed: ') == 1 and '2 of 3 episodes labelled' in out


def test_output_is_for_runs_that_cannot_be_written(run, tmp_path, capsys):
    (run / 'labels').write_text('in the way')       # the test may run as root: permissions would not do
    assert '--output' in fails(capsys, run, '--name', 'v')
    assert relabel(run, '--name', 'v', '--output', tmp_path / 'elsewhere') == 0
    labels = Labels.find(str(tmp_path / 'elsewhere' / 'v'), run)
    assert labels.tasks == TASKS and len(labels.read(Episode.open(find_episodes(run)[0]))) == 7
    (tmp_path / 'elsewhere' / 'v').rename(tmp_path / 'elsewhere' / 'w')
    with pytest.raises(LabelError, match='renamed'):
        Labels.open(tmp_path / 'elsewhere' / 'w')


def test_several_runs_at_once(run, tmp_path, capsys):
    write_synthetic_episode(tmp_path / 'loose', 7, 4, 'state')
    assert relabel(tmp_path, '--name', 'v') == 0
    assert (run / 'labels' / 'v').is_dir() and (tmp_path / 'loose' / 'labels' / 'v').is_dir()
    assert labels_folder(find_episodes(tmp_path / 'loose')[0]) == tmp_path / 'loose' / 'labels'
    labels = Labels.find('v', tmp_path)
    assert all(len(labels.read(Episode.open(p))) in (5, 7) for p in find_episodes(tmp_path))
    shutil.rmtree(run / 'labels')
    (tmp_path / 'x.py').write_text(HEIGHT)
    assert relabel(run, '--name', 'v', '--task', f'{tmp_path / "x.py"}:height') == 0
    with pytest.raises(LabelError, match='other functions'):
        Labels.find('v', tmp_path)
    with pytest.raises(NoLabels, match='but v'):
        Labels.find('v9', tmp_path)


def test_labels_of_another_bag_are_refused(run):
    assert relabel(run, '--name', 'v') == 0
    labels, paths = Labels.find('v', run), find_episodes(run)
    shutil.copy(labels.path(paths[0]), labels.path(paths[1]))
    with pytest.raises(LabelError, match='of another episode'):
        labels.read(Episode.open(paths[1]))
    # the same id, recorded again
    shutil.rmtree(paths[0])
    write_synthetic_episode(run / 'episodes', 0, 5, 'state')
    with pytest.raises(LabelError, match='another number of Steps'):
        labels.read(Episode.open(paths[0]))
    shutil.rmtree(paths[0])
    write_synthetic_episode(run / 'episodes', 99, 6, 'state', number=0)
    with pytest.raises(LabelError, match='other samples'):
        labels.read(Episode.open(paths[0]))


@given(st.data())
def test_damaged_files_are_one_clear_error(labelled, data):
    labels, episode, good, rewards = labelled
    which = data.draw(st.sampled_from(['manifest', 'labels']))
    path = labels.path(episode.path) if which == 'labels' else labels.folder / 'version.json'
    raw = bytearray(good[which])
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)):]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        again = Labels.open(labels.folder).read(episode)
        assert np.array_equal(again, rewards)
    except BagError as e:
        assert '\n' not in str(e) and str(labels.folder) in str(e)
    finally:
        path.write_bytes(good[which])


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda x: st.lists(x, max_size=3)
                    | st.dictionaries(st.sampled_from(['format', 'version', 'tasks', 'code', 'definition', 'sources',
                                                       'name', 'sha256']), x, max_size=5), max_leaves=8))
def test_other_json_is_one_clear_error(labelled, value):
    path = labelled[0].folder / 'version.json'
    good = json.loads(labelled[2]['manifest'])
    for other in (value, {**good, **value} if isinstance(value, dict) else value):
        path.write_text(json.dumps(other))
        try:
            assert read_manifest(labelled[0].folder)['definition'] == good['definition']
        except LabelError as e:
            assert '\n' not in str(e)
        finally:
            path.write_bytes(labelled[2]['manifest'])


@pytest.fixture(scope='module')
def labelled(source_run, tmp_path_factory):
    """A version with one labelled episode: (labels, episode, its files' bytes, rewards)."""
    episode = Episode.open(find_episodes(source_run)[0])
    rewards = RewardSet()
    labels, new = Labels.begin(tmp_path_factory.mktemp('labels'), 'v', rewards)
    assert new
    path = labels.write(episode, rewards.compute(episode))
    good = {'labels': path.read_bytes(), 'manifest': (labels.folder / 'version.json').read_bytes()}
    return labels, episode, good, rewards.compute(episode)


@pytest.mark.skipif(not EXAMPLE.is_file(), reason='not in the repository')
def test_the_example_of_the_docs(run, capsys):
    words = [w for name in ('gentle_lift', 'green_alone') for w in ('--task', f'{EXAMPLE}:{name}')]
    assert relabel(run, '--name', 'example', *words) == 0
    labels = Labels.find('example', run)
    assert labels.tasks[6:] == ('gentle_lift', 'green_alone')
    rewards = np.concatenate([labels.read(Episode.open(p)) for p in find_episodes(run)])
    assert len(np.unique(rewards[:, 6])) > 3 and set(np.unique(rewards[:, 7])) <= {0.0, 1.0}

# SPDX-License-Identifier: Apache-2.0
"""The exported LeRobot dataset, read back without LeRobot; docs/lerobot.md has the check with its own loader."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chef_task.bag import Episode, find_episodes, lerobot_rows, lerobot_stats
from chef_task.bag.cli import main
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.observation import features
from chef_task.rewards import TASKS
from chef_task.spaces import CAMERAS, streams_of

pytest.importorskip('pyarrow')
import pyarrow as pa  # noqa: E402
from pyarrow import parquet  # noqa: E402

DATA = 'data/chunk-000/file-000.parquet'


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Runs of two episodes (a time limit of 9 steps, a force stop after 5), by observation."""
    folder = tmp_path_factory.mktemp('runs')
    for observation in ('pixels', 'state'):
        write_synthetic_episode(folder / observation / 'episodes', 0, 9, observation)
        write_synthetic_episode(folder / observation / 'episodes', 1, 5, observation, reason='force_limit')
    return folder


@pytest.fixture(scope='module')
def datasets(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp('datasets')
    for observation in ('pixels', 'state'):
        assert export(runs / observation, folder / observation) == 0
    return folder


def export(*words):
    return main(['export', 'lerobot', *map(str, words)])


def fails(capsys, *words):
    """The one line that a refused export prints."""
    assert export(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith('chef bags: ') and error.count('\n') == 1
    return error


def load(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize('observation', ['pixels', 'state'])
def test_rows_are_what_the_bags_hold(runs, datasets, observation):
    import cv2

    rows = parquet.read_table(datasets / observation / DATA).to_pylist()
    assert [r['index'] for r in rows] == list(range(14))
    assert [r['episode_index'] for r in rows] == [0] * 9 + [1] * 5
    objects = 'objects' if observation == 'pixels' else 'observation.environment_state'
    here = iter(rows)
    for path in find_episodes(runs / observation):
        steps = list(Episode.open(path).iterate())
        for k, ((step, samples), (after, _)) in enumerate(zip(steps, steps[1:])):
            row, seen = next(here), features(samples, step.last_action)
            expected = {
                'observation.state': np.concatenate([seen[key] for key in lerobot_rows.STATE]),
                objects: np.concatenate([seen[key] for key in lerobot_rows.OBJECTS]),
                'action': step.action, 'next.rewards': after.rewards, 'next.reward': after.rewards[-1],
                'next.done': after.last, 'next.truncated': after.last and after.discount == 1.0,
                'next.success': after.rewards[-1] == 1.0, 'stamp_ns': step.stamp,
                'stream_stamps_ns': [step.stamps[n] for n in streams_of(observation)], 'frame_index': k,
                'timestamp': np.float32(k / 20), 'task_index': step.task}
            for key, value in expected.items():
                assert np.array_equal(np.asarray(row[key], np.asarray(value).dtype), value), (key, k)
            for camera in CAMERAS if observation == 'pixels' else ():
                data = np.frombuffer(row[f'observation.images.{camera}']['bytes'], np.uint8)
                image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
                assert np.array_equal(image, samples[camera]['image'])
    assert next(here, None) is None
    assert [r['next.truncated'] for r in rows if r['next.done']] == [True, False]


@pytest.mark.parametrize('observation', ['pixels', 'state'])
def test_files_are_laid_out_as_v3_says(datasets, observation):
    folder = datasets / observation
    info = load(folder / 'meta' / 'info.json')
    assert (info['codebase_version'], info['fps'], info['total_episodes'], info['total_frames']) == ('v3.0', 20, 2, 14)
    schema = parquet.read_schema(folder / DATA)
    assert schema.names == list(info['features'])
    kinds = {'float32': pa.float32(), 'int64': pa.int64(), 'bool': pa.bool_()}
    for name, feature in info['features'].items():
        kind = schema.field(name).type
        if feature['dtype'] == 'image':
            assert kind == pa.struct({'bytes': pa.binary(), 'path': pa.string()}) and feature['shape'] == [128, 128, 3]
        elif feature['shape'] == [1]:
            assert kind == kinds[feature['dtype']]
        else:
            assert kind == pa.list_(kinds[feature['dtype']], feature['shape'][0])
            assert len(feature['names']) == len(set(feature['names'])) == feature['shape'][0]
    cameras = [k for k in info['features'] if k.startswith('observation.images.')]
    assert len(cameras) == (3 if observation == 'pixels' else 0)
    assert ('observation.environment_state' in info['features']) == (observation == 'state')
    assert parquet.read_metadata(folder / DATA).num_row_groups == 2
    episodes = parquet.read_table(folder / 'meta/episodes/chunk-000/file-000.parquet').to_pylist()
    assert [(e['dataset_from_index'], e['dataset_to_index'], e['length']) for e in episodes] == [(0, 9, 9), (9, 14, 5)]
    assert [e['chef/termination_reason'] for e in episodes] == ['time_limit', 'force_limit']
    tasks = parquet.read_table(folder / 'meta/tasks.parquet')
    assert tasks['task_index'].to_pylist() == list(range(6)) and tasks['task'].to_pylist()[0] == 'Open the gripper.'
    assert json.loads(tasks.schema.metadata[b'pandas'])['index_columns'] == ['task']
    assert all(set(e['tasks']) <= set(tasks['task'].to_pylist()) for e in episodes)
    assert load(folder / 'meta' / 'chef.json')['left_out'] == []


def test_statistics_are_those_of_the_rows(runs, datasets):
    stats = load(datasets / 'pixels' / 'meta' / 'stats.json')
    table = parquet.read_table(datasets / 'pixels' / DATA)
    for key in ('observation.state', 'action', 'next.reward', 'next.done'):
        values = np.array(table[key].to_pylist(), float).reshape(14, -1)
        for name, value in (('mean', values.mean(0)), ('std', values.std(0)), ('min', values.min(0)),
                            ('max', values.max(0)), ('count', [14])):
            np.testing.assert_allclose(stats[key][name], value, rtol=1e-9, atol=1e-12)
    images = np.stack([s[CAMERAS[1]]['image'] for p in find_episodes(runs / 'pixels')
                       for _, s in list(Episode.open(p).iterate())[:-1]]) / 255.0
    found = {k: np.array(v) for k, v in stats[f'observation.images.{CAMERAS[1]}'].items()}
    assert found['mean'].shape == (3, 1, 1) and found['count'].tolist() == [14]
    flat = images.reshape(-1, 3)
    np.testing.assert_allclose(found['mean'].ravel(), flat.mean(0))
    np.testing.assert_allclose(found['std'].ravel(), flat.std(0))
    np.testing.assert_allclose(found['q90'].ravel(), np.quantile(flat, 0.9, axis=0, method='inverted_cdf'))
    assert found['min'].ravel().tolist() == flat.min(0).tolist() and found['max'].max() == flat.max()


@given(st.lists(arrays(np.float32, st.tuples(st.integers(1, 5), st.just(2)), elements=st.floats(-100, 100, width=32)),
                min_size=1, max_size=4))
def test_merged_statistics_are_those_of_all_rows(parts):
    merged, whole = lerobot_stats.merge([lerobot_stats.of_rows(p) for p in parts]), np.concatenate(parts).astype(float)
    for name in ('min', 'max', 'mean', 'std'):
        np.testing.assert_allclose(merged[name], getattr(whole, name)(0), atol=1e-4)
    assert merged['count'].tolist() == [len(whole)]
    for name in lerobot_stats.QUANTILES:
        assert (merged['min'] - 1e-4 <= merged[name]).all() and (merged[name] <= merged['max'] + 1e-4).all()


def test_rewards_from_labels(runs, tmp_path, capsys):
    run = shutil.copytree(runs / 'state', tmp_path / 'run')
    (tmp_path / 'task.py').write_text('def half(step):\n    return 0.5\n')
    assert main(['relabel', str(run), '--name', 'v', '--task', f'{tmp_path / "task.py"}:half']) == 0
    assert export(run, tmp_path / 'out', '--labels', 'v') == 0
    info, table = load(tmp_path / 'out/meta/info.json'), parquet.read_table(tmp_path / 'out' / DATA)
    assert info['features']['next.rewards']['names'] == [*TASKS, 'half']
    assert {r[6] for r in table['next.rewards'].to_pylist()} == {0.5}
    assert load(tmp_path / 'out/meta/chef.json')['labels']['version'] == 'v'
    assert 'has no labels' in fails(capsys, run, tmp_path / 'out2', '--labels', 'w')


def test_bags_that_cannot_be_exported_are_named(runs, tmp_path, capsys):
    run = shutil.copytree(runs / 'state', tmp_path / 'run')
    broken = next(find_episodes(run)[1].glob('*.mcap'))
    broken.write_bytes(broken.read_bytes()[:-100])
    write_synthetic_episode(run / 'episodes', 5, 4, 'state', tasks=('a', 'b', 'c', 'd', 'e', 'f'))
    assert export(run, tmp_path / 'out') == 1
    out = capsys.readouterr().out
    assert out.count('left out: ') == 2 and '1 of 3 episodes, 9 transitions' in out
    assert len(load(tmp_path / 'out/meta/chef.json')['left_out']) == 2


def test_a_strange_summary_is_named_or_told(runs, tmp_path, monkeypatch, capsys):
    real = Episode.open.__func__

    def strange(cls, path):
        episode = real(cls, path)
        odd = {'triplet': []} if path == find_episodes(runs / 'state')[0] else {'cell': '\ud800', 'policy_version': 7}
        episode.record = dataclasses.replace(episode.record, **odd)
        return episode
    monkeypatch.setattr(Episode, 'open', classmethod(strange))
    assert export(runs / 'state', tmp_path / 'out') == 1
    assert '1 of 2 episodes' in capsys.readouterr().out
    [episode] = parquet.read_table(tmp_path / 'out/meta/episodes/chunk-000/file-000.parquet').to_pylist()
    assert (episode['chef/cell'], episode['chef/policy_version']) == ('?', '7')


def test_a_sensor_fault_ends_the_episode_before_it(runs, tmp_path, monkeypatch):
    calls = iter(range(100))

    def broken(samples, last_action):
        seen = features(samples, last_action)
        return {**seen, 'wrist_force': seen['wrist_force'] * np.nan} if next(calls) == 4 else seen
    monkeypatch.setattr(lerobot_rows, 'features', broken)
    assert export(find_episodes(runs / 'pixels')[0], tmp_path / 'out') == 0
    table = parquet.read_table(tmp_path / 'out' / DATA)
    assert len(table) == 3 and table['next.truncated'].to_pylist() == [False, False, True]


def test_a_file_is_followed_by_the_next(runs, tmp_path, monkeypatch):
    from chef_task.bag import lerobot_tables

    monkeypatch.setattr(lerobot_tables, 'DATA_FILE_MB', 0)
    monkeypatch.setattr(lerobot_tables, 'CHUNK_FILES', 1)
    assert export(runs / 'state', tmp_path / 'out') == 0
    files = sorted(p.relative_to(tmp_path / 'out') for p in (tmp_path / 'out/data').rglob('*.parquet'))
    assert [str(f) for f in files] == ['data/chunk-000/file-000.parquet', 'data/chunk-001/file-000.parquet']
    episodes = parquet.read_table(tmp_path / 'out/meta/episodes/chunk-000/file-000.parquet').to_pylist()
    assert [(e['data/chunk_index'], e['data/file_index']) for e in episodes] == [(0, 0), (1, 0)]
    assert sum(len(parquet.read_table(tmp_path / 'out' / f)) for f in files) == 14


def test_bags_of_both_kinds_need_a_choice(runs, tmp_path, capsys):
    assert 'choose --observation' in fails(capsys, runs, tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []
    assert export(runs, tmp_path / 'state', '--observation', 'state') == 0
    assert load(tmp_path / 'state/meta/info.json')['total_episodes'] == 4
    assert export(runs, tmp_path / 'pixels', '--observation', 'pixels') == 1
    assert load(tmp_path / 'pixels/meta/info.json')['total_episodes'] == 2


def test_what_is_refused_leaves_nothing(runs, tmp_path, capsys, monkeypatch):
    run, there = runs / 'state', tmp_path / 'there'
    there.mkdir()
    assert 'is there already' in fails(capsys, run, there) and list(there.iterdir()) == []
    (tmp_path / 'file').write_text('')
    assert 'cannot be written' in fails(capsys, run, tmp_path / 'file' / 'out')
    assert 'none of the bags' in fails(capsys, there, tmp_path / 'out')
    assert 'no such folder' in fails(capsys, tmp_path / 'none', tmp_path / 'out')
    (tmp_path / '.out.partial').mkdir()
    assert 'remove it' in fails(capsys, run, tmp_path / 'out')
    (tmp_path / '.out.partial').rmdir()
    monkeypatch.setattr('chef_task.bag.lerobot.count_rows', lambda folder: 13)
    assert '13 of 14 rows' in fails(capsys, run, tmp_path / 'out')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['file', 'there']


def test_a_missing_pyarrow_is_one_line(runs, tmp_path, capsys, monkeypatch):
    for name in [m for m in sys.modules if m.startswith('chef_task.bag.lerobot')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    assert 'pip install pyarrow' in fails(capsys, runs / 'state', tmp_path / 'out')

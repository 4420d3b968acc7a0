# SPDX-License-Identifier: Apache-2.0
"""A simulated episode's file becomes a bag, and a bag a file, and what learning reads of them is the same."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chef_task import episode_file, observation
from chef_task.bag import BagError, Episode, cli
from chef_task.bag.convert import AlreadyThere, convert, sources, to_file
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.episode_file import EpisodeFile, EpisodeFileError
from chef_task.records import EpisodeRecord, StepRecord
from chef_task.rewards import TASKS
from chef_task.spaces import STREAMS, streams_of


def contents(episode) -> list:
    return [(s.index, s.action, s.last_action, s.task, s.rewards, s.discount, s.last, s.policy_version, f)
            for s, f in episode.features()]


def assert_same(a: list, b: list) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b):
        for x, y in zip(one[:-1], other[:-1]):
            np.testing.assert_array_equal(x, y)
        assert {k: (v.dtype, v.tobytes()) for k, v in one[-1].items() if k in other[-1]} == {
            k: (v.dtype, v.tobytes()) for k, v in other[-1].items() if k in one[-1]}


@pytest.mark.parametrize('kind, reason', [('state', 'time_limit'), ('pixels', 'time_limit'), ('state', 'force_limit')])
def test_a_bag_becomes_a_file_and_a_bag_again(tmp_path, kind, reason):
    bag = write_synthetic_episode(tmp_path / 'bags', 3, 9, kind, reason=reason)
    file = convert(bag, tmp_path / 'files')
    assert file == tmp_path / 'files' / f'{bag.name}.npz'
    again = convert(file, tmp_path / 'again')
    first, between, last = Episode.open(bag), EpisodeFile(file), Episode.open(again)
    needed = observation.fields_of(kind)
    for episode in (first, last):
        for (_, features), (step, samples) in zip(episode.features(), between.iterate(), strict=True):
            built = observation.features(samples, step.last_action)
            assert all(built[k].tobytes() == features[k].tobytes() for k in needed)
    assert_same(contents(first), contents(between))
    assert_same(contents(first), contents(last))
    for name in ('episode_id', 'cell', 'triplet', 'seed', 'tasks', 'policy_version', 'steps', 'termination_reason',
                 'success'):
        assert getattr(first.record, name) == getattr(last.record, name) == getattr(between.record, name)
    assert last.record.returns == pytest.approx(first.record.returns)
    assert last.record.metadata['converted_from'] == file.name
    assert not list((tmp_path / 'again').glob('.*')) and not list((tmp_path / 'files').glob('.*'))


def test_the_made_bag_passes_the_check(tmp_path, capsys):
    bag = write_synthetic_episode(tmp_path / 'bags', 1, 12, 'state')
    assert cli.main(['convert', str(bag), '--to', str(tmp_path / 'files')]) == 0
    assert cli.main(['convert', str(tmp_path / 'files'), '--to', str(tmp_path / 'made')]) == 0
    capsys.readouterr()
    assert cli.main(['check', str(tmp_path / 'made')]) == 0, capsys.readouterr().out


def test_what_cannot_be_converted_is_one_line_and_the_others_go_on(tmp_path, capsys):
    bags = [write_synthetic_episode(tmp_path / 'bags', seed, 5, 'state') for seed in range(2)]
    files = [convert(bag, tmp_path / 'files') for bag in bags]
    files[0].write_bytes(files[0].read_bytes()[:1000])
    assert cli.main(['convert', str(tmp_path / 'files'), '--to', str(tmp_path / 'out')]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f'failed: {files[0]}: not an episode, or damaged') and len(out) == 2
    assert [p.name for p in sorted((tmp_path / 'out').iterdir())] == [bags[1].name]
    assert cli.main(['convert', str(files[1]), '--to', str(tmp_path / 'out')]) == 0
    assert capsys.readouterr().out == f'left as it is: {tmp_path / "out" / bags[1].name} is there already\n'
    with pytest.raises(BagError, match='no bag or file of an episode is there'):
        sources(tmp_path / 'nothing')
    assert cli.main(['convert', str(tmp_path / 'nothing'), '--to', str(tmp_path / 'out')]) == 2


def test_a_file_without_what_is_exact_is_refused(tmp_path):
    from test_episode_file import make
    make(tmp_path / 'old.npz')
    with pytest.raises(EpisodeFileError, match='before files kept what a bag needs'):
        convert(tmp_path / 'old.npz', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('kind', ['state', 'pixels'])
def test_a_file_that_became_a_bag_comes_back_the_same(tmp_path, kind):
    """Times too, and however often: a bag made of a file is no other episode."""
    file = convert(write_synthetic_episode(tmp_path / 'bags', 3, 9, kind), tmp_path / 'files')
    bag = convert(file, tmp_path / 'again')
    back = convert(bag, tmp_path / 'back')
    one, other, between = EpisodeFile(file), EpisodeFile(back), Episode.open(bag)
    assert raw(one) == raw(other)
    assert [s.stamp for s in one.steps()] == [s.stamp for s in between.steps()] == [s.stamp for s in other.steps()]
    added = {'converted_from': file.name, 'observation': kind, 'image_codec': 'png'}
    assert other.record == dataclasses.replace(one.record, metadata={**one.record.metadata, **added})
    assert other.record == between.record and between.image_codec == 'png'


def raw(episode: EpisodeFile) -> dict:
    """All of it bit for bit, what is exact included."""
    return ({k: v.tobytes() for k, v in episode.columns().items()},
            [{(n, k): v.tobytes() for n, x in s.items() for k, v in x.items()} for _, s in episode.iterate()])


number = st.floats(-1e3, 1e3, allow_subnormal=True)
single = st.floats(-1e3, 1e3, width=32, allow_subnormal=True)


@settings(max_examples=40)
@given(data=st.data())
def test_whatever_the_numbers_are_the_features_are_the_same(tmp_path_factory, data):
    """Poses in double precision, every register of the gripper, zeros with a sign, and numbers that are not normal."""
    folder = tmp_path_factory.mktemp('any')
    samples = [{name: {k: data.draw(arrays(float, shape, elements=number)) for k, shape in STREAMS[name].fields.items()}
                for name in streams_of('state')} for _ in range(2)]
    for s in samples:       # a message holds no more of these
        s['gripper'] = {'position': np.array([float(data.draw(st.integers(0, 255)))]),
                        'velocity': data.draw(arrays(float, 1, elements=single)),
                        'grasp': np.array([float(data.draw(st.integers(1, 3)))])}
    steps, last_action = [], np.zeros(5, np.float32)
    for k in range(2):
        action = np.zeros(5, np.float32) if k else data.draw(arrays(np.float32, 5, elements=st.floats(-1, 1, width=32)))
        rewards = data.draw(arrays(np.float32, 6, elements=st.floats(0, 1, width=32)))
        stamp = 1_000_000_000 + 50_000_000 * k
        steps.append(StepRecord(stamp, k, dict.fromkeys(streams_of('state'), stamp), last_action, action, k, 'v1',
                                rewards, 1.0 - k, bool(k)))
        last_action = action
    returns = tuple(map(float, steps[0].rewards + steps[1].rewards))
    record = EpisodeRecord('sim_1', 'simulated', 2, 7, TASKS, 'v1', 1, 'force_limit:21.0 N', False, 21.0, returns,
                           steps[0].stamp, steps[1].stamp, {'fleet_seed': 3})
    features = [observation.features(s, step.last_action) for s, step in zip(samples, steps)]
    episode_file.write(folder / 'sim_1.npz', record, 'state', steps, features, samples)
    bag = convert(folder / 'sim_1.npz', folder / 'bags')
    for (_, seen), wanted in zip(Episode.open(bag).features(), features, strict=True):
        assert {k: v.tobytes() for k, v in seen.items()} == {k: v.tobytes() for k, v in wanted.items()}
    assert raw(EpisodeFile(convert(bag, folder / 'back'))) == raw(EpisodeFile(folder / 'sim_1.npz'))


def test_a_file_whose_samples_give_other_features_is_refused(tmp_path):
    """What replay reads of the bag would be something else."""
    episode = Episode.open(write_synthetic_episode(tmp_path / 'bags', 1, 4, 'state'))
    steps, samples = zip(*episode.iterate())
    features = [observation.features(s, step.last_action) for s, step in zip(samples, steps)]
    features[2]['pinch_pose'] = features[2]['pinch_pose'] + np.float32(1e-3)
    episode_file.write(tmp_path / 'x.npz', episode.record, 'state', steps, features, samples)
    with pytest.raises(BagError, match='step 2: its pinch_pose does not follow from the samples'):
        convert(tmp_path / 'x.npz', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['../out', '.hidden', 'a/b', '', 'a\nb'])
def test_an_id_leads_nowhere_else(tmp_path, name):
    episode = Episode.open(write_synthetic_episode(tmp_path / 'bags', 1, 4, 'state'))
    episode.record = dataclasses.replace(episode.record, episode_id=name)
    with pytest.raises(BagError, match='cannot name anything'):
        to_file(episode, tmp_path / 'out')
    steps, samples = zip(*episode.iterate())
    features = [observation.features(s, step.last_action) for s, step in zip(samples, steps)]
    episode_file.write(tmp_path / 'x.npz', episode.record, 'state', steps, features, samples)
    with pytest.raises(BagError, match='cannot name anything'):
        convert(tmp_path / 'x.npz', tmp_path / 'out')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['bags', 'x.npz']


@pytest.mark.parametrize('keep', [slice(0, -1), slice(0, 0)])
def test_a_bag_that_was_cut_short_is_refused(tmp_path, keep):
    episode = Episode.open(write_synthetic_episode(tmp_path / 'bags', 1, 4, 'state'))
    episode._steps = episode.steps()[keep]
    with pytest.raises(BagError, match='cut short'):
        to_file(episode, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_folder_with_both_needs_to_be_told(tmp_path, capsys):
    bag = write_synthetic_episode(tmp_path / 'run' / 'episodes', 1, 4, 'state')
    file = convert(write_synthetic_episode(tmp_path / 'bags', 2, 4, 'state'), tmp_path / 'run' / 'episodes')
    assert cli.main(['convert', str(tmp_path / 'run'), '--to', str(tmp_path / 'out')]) == 2
    assert '--as bag or --as file' in capsys.readouterr().err
    assert sources(tmp_path / 'run', 'bag') == [file] and sources(tmp_path / 'run', 'file') == [bag]
    assert cli.main(['convert', str(tmp_path / 'run'), '--as', 'bag', '--to', str(tmp_path / 'out')]) == 0
    assert [p.name for p in (tmp_path / 'out').iterdir()] == [file.stem]
    assert cli.main(['convert', str(bag), str(file), '--to', str(tmp_path / 'each')]) == 0
    assert {p.name for p in (tmp_path / 'each').iterdir()} == {file.stem, f'{bag.name}.npz'}
    with pytest.raises(AlreadyThere):
        convert(bag, tmp_path / 'each')


def test_a_disk_that_refuses_leaves_nothing(tmp_path, monkeypatch):
    file = convert(write_synthetic_episode(tmp_path / 'bags', 1, 4, 'state'), tmp_path / 'files')

    def full(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(BagError, match='No space left'):
        convert(file, tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir())

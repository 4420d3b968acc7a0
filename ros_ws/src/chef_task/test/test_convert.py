# SPDX-License-Identifier: Apache-2.0
"""A simulated episode's file becomes a bag, and a bag a file, and what learning reads of them is the same."""

import numpy as np
import pytest

from chef_task import observation
from chef_task.bag import BagError, Episode, cli
from chef_task.bag.convert import convert, sources
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.episode_file import EpisodeFile, EpisodeFileError


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
    for name in ('episode_id', 'cell', 'triplet', 'seed', 'tasks', 'policy_version', 'steps', 'termination_reason', 'success'):
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
    assert cli.main(['convert', str(files[1]), '--to', str(tmp_path / 'out')]) == 1
    assert 'exists already' in capsys.readouterr().out
    with pytest.raises(BagError, match='no bag or file of an episode is there'):
        sources(tmp_path / 'nothing')
    assert cli.main(['convert', str(tmp_path / 'nothing'), '--to', str(tmp_path / 'out')]) == 2


def test_a_file_without_what_is_exact_is_refused(tmp_path):
    from test_episode_file import make
    make(tmp_path / 'old.npz')
    with pytest.raises(EpisodeFileError, match='before files kept what a bag needs'):
        convert(tmp_path / 'old.npz', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()

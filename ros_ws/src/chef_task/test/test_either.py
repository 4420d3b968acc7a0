# SPDX-License-Identifier: Apache-2.0
"""What takes bags takes files of simulated episodes as well, or says in one line what to do."""

import dataclasses
import re

import cv2
import numpy as np
import pytest

from chef_task import episode_file
from chef_task.bag import Episode, cli
from chef_task.bag.convert import convert
from chef_task.bag.either import find_either, left_out, open_either, read_either
from chef_task.bag.report import gather
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.episode_file import EpisodeFile


@pytest.fixture
def run(tmp_path):
    """A run with a bag and a file of another episode, one damaged file, and what is named like files but is none."""
    episodes = tmp_path / 'run' / 'episodes'
    write_synthetic_episode(episodes, 1, 6, 'state')
    convert(write_synthetic_episode(tmp_path / 'others', 2, 8, 'state', triplet=4), episodes)
    (episodes / 'torn.npz').write_bytes(b'PK torn')
    for name in ('labels/v1/x.npz', 'episodes/.x.npz.partial', 'episodes/quarantine/x.npz', 'policies/w.npz'):
        (tmp_path / 'run' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'run' / name).write_bytes(b'')
    return tmp_path / 'run'


def file_of(run):
    return next(p for p in (run / 'episodes').glob('2*.npz'))


def test_files_are_found_beside_bags_and_nothing_else_is(run):
    assert [p.name.split('_')[0] for p in find_either(run)] == ['20261123T205600', '20261123T205700', 'torn.npz']
    assert find_either(run / 'episodes') == find_either(run)
    assert find_either(file_of(run)) == [file_of(run)]


def test_list_shows_both_in_the_same_columns(run, capsys):
    assert cli.main(['list', str(run)]) == 0
    head, one, other, count, torn = capsys.readouterr().out.splitlines()
    assert one.split()[2] == '1' and other.split()[2] == '4' and len(one.split()) == len(other.split())
    assert count.startswith('2 episodes') and torn.startswith('unreadable: ') and 'torn.npz' in torn
    assert cli.main(['list', str(file_of(run))]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == other.split()


def test_a_record_is_read_without_the_steps(run, monkeypatch):
    monkeypatch.setattr(EpisodeFile, '__init__', None)
    assert read_either(file_of(run)).triplet == 4


def test_report_counts_both(run, tmp_path):
    found = gather(run)
    assert [r.triplet for r in found.rows] == [1, 4] and [p.name for p, _ in found.unreadable] == ['torn.npz']
    assert found.rows[1].bytes == file_of(run).stat().st_size
    assert cli.main(['report', str(run), '--output', str(tmp_path / 'a.html')]) == 0
    assert (tmp_path / 'a.html').stat().st_size > 10_000


def test_simulated_time_is_no_date(run, tmp_path, capsys):
    episode = EpisodeFile(file_of(run))
    steps, samples = zip(*episode.iterate())
    record = dataclasses.replace(episode.record, episode_id='sim_00000000', start_ns=1_000_000_000)
    features = [f for _, f in episode.features()]
    episode_file.write(tmp_path / 'sim' / 'sim_00000000.npz', record, 'state', steps, features, samples)
    assert cli.main(['list', str(tmp_path / 'sim')]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == '-'
    assert gather(tmp_path / 'sim').rows[0].time == '-'
    assert cli.main(['report', str(tmp_path / 'sim'), '--output', str(tmp_path / 'a.html')]) == 0
    assert '1970' not in (tmp_path / 'a.html').read_text()


@pytest.mark.parametrize('kind', ['state', 'pixels'])
def test_show_draws_of_a_file_what_it_draws_of_the_bag(tmp_path, kind, capsys):
    bag = write_synthetic_episode(tmp_path / 'bags', 1, 12, kind)
    file = convert(bag, tmp_path / 'files')
    texts, pictures = [], []
    for i, path in enumerate((bag, file)):
        assert cli.main(['show', str(path), '--output', str(tmp_path / f'{i}.png')]) == 0
        texts.append([s for s in capsys.readouterr().out.splitlines() if re.match(r'return|tasks|triplet|ended', s)])
        pictures.append(cv2.imread(str(tmp_path / f'{i}.png')))
    assert texts[0] == texts[1] and len(texts[0]) == 9
    assert pictures[0].shape == pictures[1].shape
    top = slice(60, 350 if kind == 'pixels' else 200)     # below the title, above the force, which has fewer samples
    assert np.abs(pictures[0][top].astype(int) - pictures[1][top]).mean() < 1


def test_movie_takes_a_file_with_cameras(tmp_path, capsys):
    pytest.importorskip('av')
    file = convert(write_synthetic_episode(tmp_path / 'bags', 1, 5), tmp_path / 'files')
    assert cli.main(['movie', str(file), '--output', str(tmp_path / 'a.mp4')]) == 0
    assert 'movie of 6 steps' in capsys.readouterr().out


def test_an_open_file_is_what_the_bag_is(run):
    bag = convert(file_of(run), run.parent / 'again')
    one, other = open_either(file_of(run)), open_either(bag)
    assert isinstance(other, Episode) and one.schedule() == other.schedule()
    for stream in ('wrench', 'gripper', 'objects', 'joints'):
        a, b = one.series(stream), other.series(stream)
        assert (a.stamps == b.stamps).all() and all(a.values[k].tobytes() == b.values[k].tobytes() for k in b.values)


def test_check_reads_files_whole(run, capsys):
    assert cli.main(['check', str(run)]) == 1
    out = capsys.readouterr().out
    assert out.count('failed: ') == 1 and 'torn.npz' in out and '2 of 3 episodes' in out
    assert cli.main(['check', str(file_of(run))]) == 0


@pytest.mark.parametrize('what, told', [('rewards', 'step 3: reward open was recorded as'), ('returns', 'not the sums'),
                                        ('features', 'step 3: its red_pose does not follow')])
def test_check_finds_what_does_not_agree(run, capsys, what, told):
    episode = EpisodeFile(file_of(run))
    record, (steps, samples) = episode.record, zip(*episode.iterate())
    features = [dict(f) for _, f in episode.features()]
    if what == 'rewards':
        steps = [dataclasses.replace(s, rewards=s.rewards + np.float32(1e-3) * (s.index == 3)) for s in steps]
    elif what == 'returns':
        record = dataclasses.replace(record, returns=tuple(r + 1 for r in record.returns))
    else:
        features[3]['red_pose'] = features[3]['red_pose'] + np.float32(0.01)
    episode_file.write(file_of(run), record, 'state', steps, features, samples)
    assert cli.main(['check', str(file_of(run))]) == 1
    assert told in capsys.readouterr().out


def test_a_file_of_the_first_format_is_listed_and_read_but_becomes_no_bag(tmp_path, capsys):
    from test_episode_file import make
    make(tmp_path / 'old.npz')
    assert cli.main(['list', str(tmp_path)]) == cli.main(['show', str(tmp_path / 'old.npz'), '--output',
                                                          str(tmp_path / 'a.png')]) == 0
    capsys.readouterr()
    assert cli.main(['convert', str(tmp_path / 'old.npz'), '--to', str(tmp_path / 'out')]) == 1
    assert capsys.readouterr().out == f'failed: {tmp_path}/old.npz: was written before files kept what a bag needs\n'


@pytest.mark.parametrize('words', [['relabel'], ['recover'], ['export', 'lerobot']])
def test_what_takes_bags_alone_says_what_to_do(run, tmp_path, capsys, words):
    more = [str(tmp_path / 'out')] if words[0] == 'export' else []
    assert cli.main([*words, str(file_of(run)), *more]) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.count('\n') == 1 and f'./chef bags convert {file_of(run)} --to DIR' in err


def test_what_takes_the_bags_of_a_run_tells_that_files_are_left_out(run, capsys):
    assert left_out(run) == f'2 episodes in files are left out; convert them first: ./chef bags convert {run} --to DIR'
    assert cli.main(['relabel', str(run), '--name', 'v2']) == 0
    assert left_out(run) in capsys.readouterr().out

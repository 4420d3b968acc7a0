# SPDX-License-Identifier: Apache-2.0
import dataclasses
import shutil

import numpy as np
import pytest

from chef_task.bag import AuditError, Episode
from chef_task.bag.cli import main
from chef_task.bag.synthetic import write_synthetic_episode


@pytest.fixture
def run(tmp_path):
    """A run with two sound episodes, one truncated, one foreign folder and a partial bag."""
    episodes = tmp_path / 'episodes'
    write_synthetic_episode(episodes, 0, 12, 'state')
    write_synthetic_episode(episodes, 1, 4, 'state', reason='force_limit', triplet=5, policy_version='random')
    broken = next(write_synthetic_episode(episodes, 2, 4, 'state').glob('*.mcap'))
    broken.write_bytes(broken.read_bytes()[:-100])
    (episodes / 'theirs').mkdir()
    (episodes / 'theirs' / 'theirs_0.mcap').write_text('x')
    (episodes / '.later.partial').mkdir()
    return tmp_path


def test_list(run, capsys):
    assert main(['list', str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = lines[0].split()
    for column in ('triplet', 'policy', 'steps', 'reason', 'success', 'stack_leave', 'episode'):
        assert column in head
    assert lines[1].startswith('2026-11-23 20:55:00') and 'time_limit' in lines[1] and ' 12 ' in lines[1]
    assert lines[2].startswith('2026-11-23 20:56:00') and 'force_limit' in lines[2] and '20.5' in lines[2]
    assert lines[3].startswith('2 episodes')
    assert len(lines) == 6 and 'truncated' in lines[4] and 'theirs' in lines[5]


def test_list_of_an_empty_folder(tmp_path, capsys):
    assert main(['list', str(tmp_path)]) == 0
    assert 'no episodes' in capsys.readouterr().out


@pytest.mark.parametrize('words', [
    ['list', '/no/such/folder'], ['show', '/no/such/folder'], ['check', '/no/such/folder'],
    ['show', '.', '--output', '/no/such/folder/a.png']])
def test_bad_input_is_one_line_and_status_2(words, capsys):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('chef bags: ') and err.count('\n') == 1


@pytest.mark.parametrize('words', [[], ['burn'], ['list'], ['list', 'a', 'b'], ['show', '--output']])
def test_wrong_words(words, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert '--help' in err and err.count('\n') == 1


def test_help(capsys):
    assert main(['show', '--help']) == 0
    assert 'picture' in capsys.readouterr().out


@pytest.mark.parametrize('kind', ['pixels', 'state'])
def test_show_writes_a_picture(kind, pixel_bag, state_bag, tmp_path, capsys):
    import cv2

    output = tmp_path / 'a.png'
    assert main(['show', str(pixel_bag if kind == 'pixels' else state_bag), '--output', str(output)]) == 0
    text = capsys.readouterr().out
    assert 'time_limit' in text and 'return stack_leave' in text and '/cell_1/wrench' in text
    image = cv2.imread(str(output))
    height = image.shape[0]
    assert image.shape[1] == 1430 and (height > 900) == (kind == 'pixels')
    assert np.unique(image.reshape(-1, 3), axis=0).shape[0] > 50


@pytest.mark.parametrize('name', ['', '../../out', '.hidden'])
def test_show_draws_into_the_current_folder(name, tmp_path, monkeypatch, capsys):
    bag = write_synthetic_episode(tmp_path / 'bags', 0, 2, 'state')
    here = tmp_path / 'here'
    here.mkdir()
    monkeypatch.chdir(here)
    if name:        # an id that a bag from elsewhere may hold
        episode = Episode.open(bag)
        episode.record = dataclasses.replace(episode.record, episode_id=name)
        monkeypatch.setattr(Episode, 'open', lambda path: episode)
    assert main(['show', str(bag)]) == 0
    [picture] = here.iterdir()
    assert capsys.readouterr().out.splitlines()[-1] == f'picture written to {picture.name}'
    assert picture.suffix == '.png' and not picture.name.startswith('.') and picture.stat().st_size > 1000
    assert name or picture.stem == bag.name


def test_names_are_drawn_letter_by_letter(tmp_path, capsys):
    """What matplotlib would take for a formula, and fail on."""
    tasks = (r'$\frac$', 'a$b', *'cdef')
    bag = write_synthetic_episode(tmp_path, 0, 2, 'state', policy_version=r'$\nonsense{$', tasks=tasks)
    assert main(['show', str(bag), '--output', str(tmp_path / 'a.png')]) == 0
    assert (tmp_path / 'a.png').stat().st_size > 1000


def test_show_into_a_folder_is_one_line(state_bag, tmp_path, capsys):
    assert main(['show', str(state_bag), '--output', str(tmp_path)]) == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_check(run, capsys):
    assert main(['check', str(run)]) == 1
    out = capsys.readouterr().out
    assert out.count('failed: ') == 2 and '2 of 4 episodes' in out
    for name in ('theirs', '20261123T205700_123456_cell_1_000002'):
        shutil.rmtree(run / 'episodes' / name)
    assert main(['check', str(run)]) == 0


def test_check_finds_wrong_rewards(run, capsys, monkeypatch):
    import chef_task.rewards as rewards

    shutil.rmtree(run / 'episodes' / 'theirs')
    others = rewards._FUNCTIONS[1:]
    monkeypatch.setattr(rewards, '_FUNCTIONS', (lambda x: rewards.open_gripper(x) * 0.9, *others))
    assert main(['check', str(run)]) == 1
    assert 'step 0: reward open was recorded as 1, its samples give 0.9' in capsys.readouterr().out


def test_control_characters_do_not_reach_the_terminal(tmp_path, capsys):
    write_synthetic_episode(tmp_path, 0, 2, 'state', policy_version='v1\x1b[31m\nx')
    assert main(['list', str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert '\x1b' not in out and 'v1?[31m?x' in out and len(out.splitlines()) == 3


def test_what_is_in_quarantine_is_counted_and_listed_on_demand(tmp_path, capsys):
    write_synthetic_episode(tmp_path / 'episodes', 0, 2, 'state')
    with pytest.raises(AuditError):
        write_synthetic_episode(tmp_path / 'episodes', 1, 2, 'state', end_message=False, reason='time_limit')
    (tmp_path / 'episodes' / 'quarantine' / 'torn').mkdir()
    assert main(['list', str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        '1 episodes, 1 successful, 2 steps', '2 in quarantine (--quarantine lists them)']
    assert main(['list', '--quarantine', str(tmp_path)]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == '20261123T205600_123456_cell_1_000001: its END is missing, yet it says it ended by time_limit'
    assert second.startswith('torn: its reasons.json cannot be read') and third == '2 in quarantine'

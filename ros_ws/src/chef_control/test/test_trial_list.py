# SPDX-License-Identifier: Apache-2.0
"""Trials of a file: which are left, what a crash may do to the list of those that were run, what is no such file."""

import json

import pytest

from chef_control.trial_list import DONE, Trial, TrialList, read_done

ENTRIES = [{'number': n, 'policy': f'/policies/{n % 2}', 'seed': 100 + n // 2} for n in (4, 1, 3)]


@pytest.fixture
def path(tmp_path):
    (tmp_path / 'trials.json').write_text(json.dumps({'trials': ENTRIES}))
    return tmp_path / 'trials.json'


def test_trials_are_run_once_each_in_their_order_whatever_dies(path, tmp_path):
    trials = TrialList(path, tmp_path)
    assert trials.left == [Trial(**e) for e in ENTRIES]
    trials.done('episode_a')
    with (tmp_path / DONE).open('a') as f:
        f.write('\n{"number": 1, "epis')        # the power went
    trials = TrialList(path, tmp_path)
    assert [t.number for t in trials.left] == [1, 3]
    trials.done('episode_b')
    assert read_done(tmp_path) == {4: 'episode_a', 1: 'episode_b'}
    assert [t.number for t in TrialList(path, tmp_path).left] == [3]


@pytest.mark.parametrize('text, line', [
    ('', 'not a list of trials'), ('[]', 'not a list of trials'), ('{"trials": [1]}', 'not a list of trials'),
    (json.dumps({'trials': [ENTRIES[0], ENTRIES[0]]}), 'the same number'),
    (json.dumps({'trials': [{**ENTRIES[0], 'seed': -1}]}), 'is no trial'),
    (json.dumps({'trials': [{**ENTRIES[0], 'policy': 1}]}), 'is no trial'),
])
def test_what_is_no_list_is_one_line(path, tmp_path, text, line):
    path.write_text(text)
    with pytest.raises(ValueError) as e:
        TrialList(path, tmp_path)
    assert str(e.value).startswith(f'{path}: ') and line in str(e.value) and '\n' not in str(e.value)

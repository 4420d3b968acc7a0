# SPDX-License-Identifier: Apache-2.0
"""Early stopping: the rules on numbers worked out by hand, and what candidates read of one another."""

import pytest

from chef_learning.experiment import pruning
from chef_learning.experiment.folder import ExperimentError
from chef_learning.experiment.objective import EarlyStopping
from chef_learning.experiment.pruning import reason
from chef_learning.experiment.search import Trial
from chef_task.whole_file import write_json


def done(*values, state='complete', every=10):
    return Trial({}, state, values[-1], {every * (k + 1): v for k, v in enumerate(values)})


def test_median():
    rule = EarlyStopping(every=10, startup=3, after=20)
    others = [done(1.0, 4.0), done(2.0, 5.0), done(3.0, 9.0), done(8.0, 9.0, state='pruned'), done(9.0, 9.0, state='fail')]
    why = reason(rule, 'fitted_value', {10: 0.0, 20: 4.9}, others)
    assert why == 'after 20 updates its fitted_value 4.9 was worse than the median 5 of 3 candidates'
    assert not reason(rule, 'fitted_value', {10: 0.0, 20: 5.1}, others)         # better now
    assert not reason(rule, 'fitted_value', {10: 6.0, 20: 1.0}, others)         # was better once: its best counts
    assert not reason(rule, 'fitted_value', {10: 0.0, 20: 0.0}, others[1:])     # too few have finished
    assert not reason(rule, 'critic_loss', {10: 9.0, 20: 4.9}, others)          # smaller is better
    assert reason(rule, 'critic_loss', {10: 9.0, 20: 5.1}, others)


def test_halving():
    rule = EarlyStopping(rule='halving', every=10, factor=2)
    assert [u for u in range(1, 100) if rule.due(u)] == [10, 20, 40, 80]
    assert not reason(rule, 'fitted_value', {10: 1.0}, [])
    others = [done(1.0, 1.5), done(2.0, 2.5), done(0.5, state='pruned')]
    assert not reason(rule, 'fitted_value', {10: 2.1}, others)
    assert not reason(rule, 'fitted_value', {10: 1.9}, others)       # second of four, of which two go on
    assert reason(rule, 'fitted_value', {10: 0.9}, others).endswith('0.9 was not among the best 1/2 of 4 candidates')
    assert not reason(rule, 'fitted_value', {10: 2.1, 20: 2.6}, others)
    assert reason(rule, 'fitted_value', {10: 2.1, 20: 2.4}, others).startswith('after 20 updates')


def test_looks_are_where_whoever_is_beside_finds_them(tmp_path):
    a, b = tmp_path / 'a', tmp_path / 'b'
    for folder in (a, b, tmp_path / 'c'):
        folder.mkdir()
    assert pruning.read(a) == {} and pruning.beside(a) == []
    assert pruning.append(a, 10, 1.5) == {10: 1.5} and pruning.append(a, 20, 2.5) == {10: 1.5, 20: 2.5} == pruning.read(a)
    assert pruning.beside(b) == [Trial({}, 'running', None, {10: 1.5, 20: 2.5})]
    write_json(a / 'result.json', {'pruned': 'x'})
    assert pruning.beside(b)[0].state == 'pruned' and pruning.beside(a) == []
    (a / pruning.REPORTS).write_text('{"update": 3}\n')
    with pytest.raises(ExperimentError, match='reports.jsonl: damaged'):
        pruning.beside(b)

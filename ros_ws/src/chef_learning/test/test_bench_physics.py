# SPDX-License-Identifier: Apache-2.0
"""`./chef bench physics` goes on with its log, and says what is wrong with it; its figures are not tested."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[4] / 'benchmarks' / 'physics.py'
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason='not in the repository')
BENCH = runpy.run_path(str(SCRIPT)) if SCRIPT.is_file() else {}
ROW = {'kind': 'scripted', 'setting': 'fast', 'triplet': 2, 'seed': 1000, 'success': True, 'reason': 'time_limit',
       'returns': [1.0] * 6, 'peak_force_n': 3.0}
OPEN = {'kind': 'open_loop', 'setting': 'both', 'triplet': 2, 'seed': 1000, 'steps': [400, 399], 'rewards': [0.5] * 6,
        'pinch_m': [1e-4, 2e-3], 'red_m': [1e-3, 3e-2]}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['physics', *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name='__main__')
    return end.value.code


def test_a_log_that_holds_all_is_only_told(monkeypatch, capsys, tmp_path):
    log = tmp_path / 'log.jsonl'
    log.write_text(''.join(json.dumps(r) + '\n' for r in (ROW, {**ROW, 'setting': 'exact', 'success': False}, OPEN)))
    before = log.read_text()
    assert run(monkeypatch, '--episodes', 1, '--open-loop', 1, '--triplets', '2', '--log', log) == 0
    out = capsys.readouterr().out
    assert '| 2 | exact | 1 | 0 | 0 to 79 % | 0 |' in out and '| 2 | fast | 1 | 1 | 21 to 100 % | 0 |' in out
    assert '| 2 | 1 | 1 | 0.10 / 2.0 | 1.00 / 30.0 |' in out
    heads = [line.count('|') for line in out.splitlines() if line.startswith('|')]
    assert len(set(heads[:4])) == len(set(heads[4:])) == 1      # as many columns in every row
    assert log.read_text() == before


def test_the_same_start_and_actions_hardly_differ_before_anything_is_touched():
    settings, cell = BENCH['SETTINGS'], BENCH['SimulatedCell']
    config = BENCH['CellConfig'].load(BENCH['CONFIG'])
    BENCH['open_loop'].__globals__['STEPS'] = 10
    row = BENCH['open_loop']({name: cell(config, physics=name, triplet=1) for name in settings}, 1, 3)
    assert row['steps'] == [11, 11] and 0 < row['pinch_m'][1] < 2e-3


def test_what_is_wrong_is_one_line(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, '--triplets', '1,6') == 2
    assert "'1,6' is not a list of numbers from 1 to 5" in capsys.readouterr().err
    log = tmp_path / 'log.jsonl'
    log.write_text(json.dumps(ROW) + '\n{"kind"\n')
    assert run(monkeypatch, '--log', log) == 1
    assert capsys.readouterr().err == f'chef bench physics: {log}, line 2: not a line of this benchmark\n'

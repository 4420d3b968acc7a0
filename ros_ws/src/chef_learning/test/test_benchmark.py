# SPDX-License-Identifier: Apache-2.0
"""`./chef bench learner` runs, and says what is wrong with its arguments; its figures are not tested."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[4] / 'benchmarks' / 'learner.py'
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason='not in the repository')


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['learner', *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name='__main__')
    return end.value.code


def test_a_row(monkeypatch, capsys):
    assert run(monkeypatch, '--only', 'state', '--batch', '4', '--seconds', '0', '--device', 'cpu') == 0
    head, _, row = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    assert head.count('|') == row.count('|') and row.startswith('| state | 4 | cpu |')


def test_a_network_that_there_is_not(monkeypatch, capsys):
    assert run(monkeypatch, '--only', 'huge') == 2
    assert "there is no network 'huge'" in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""`./chef bench sim`: its tables, its contestants that are ours, and what is wrong in one line; figures are not tested."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[4] / 'benchmarks'
if not (FOLDER / 'sim.py').is_file():
    pytest.skip('not in the repository', allow_module_level=True)
sys.path.insert(0, str(FOLDER))
import _contestant as contestant  # noqa: E402
import sim  # noqa: E402


def test_rows_have_medians_and_the_ratios_of_one_round():
    rates = {'public': [10.0, 20.0, 10.0], 'public_blind': [40.0, 40.0, 20.0], 'fast': [1000.0, 1000.0, 400.0]}
    rows = sim.rows(rates)
    assert rows[0] == '| public packages, three cameras | 10.0 (10.0 to 20.0) |  | 0.5 |'
    assert rows[2] == '| ours, `fast`, state features | 1000.0 (400.0 to 1000.0) | 50.0 | 25.0 |'
    assert all(row.count('|') == len(sim.HEAD) + 1 for row in rows)
    assert sim.rows({'fast': [3.0]}) == ['| ours, `fast`, state features | 3.0 (3.0 to 3.0) |  |  |']


def test_parts_are_milliseconds_a_step_the_largest_first():
    rows = sim.share_rows({'exact': {'physics': 2.0, 'rewards': 0.1, 'steps': 100}, 'fast': {'physics': 0.5, 'steps': 1000}})
    assert rows == ['| physics | 20.00 | 0.50 |', '| rewards | 1.00 | 0.00 |']


@pytest.mark.parametrize('name', ['fast', 'scripted'])
def test_ours_runs_and_tells_where_its_time_goes(name):
    command = [sys.executable, str(FOLDER / '_sim_runners.py'), name, json.dumps({'triplet': 1, 'core': 0})]
    with contestant.Process(name, command) as process:
        done = process.ask(do='run', seconds=0.1)
        assert done['steps'] > 0 and done['seconds'] >= 0.1
        done = process.ask(do='parts', seconds=0.1)
        assert set(done['parts']) >= {'physics', 'controller', 'rewards', 'sensors', 'rest'}
        assert sum(done['parts'].values()) == pytest.approx(done['seconds']) and min(done['parts'].values()) >= 0
        with pytest.raises(contestant.ComparisonError, match="cannot do 'dance'"):
            process.ask(do='dance')


def test_a_quiet_contestant_that_fails_says_why_in_one_line():
    code = 'import sys; print("noise", file=sys.stderr); raise ValueError("no display")'
    with contestant.Process('it', [sys.executable, '-S', '-c', code], quiet=True) as process:
        with pytest.raises(contestant.ComparisonError, match="^it: ended with status 1 at 'run': ValueError: no display$"):
            process.ask(do='run', seconds=1)


@pytest.mark.parametrize('words, message', [
    (['--only', 'dance'], "there is no 'dance' here"), (['--no-public', '--only', 'public'], "there is no 'public' here"),
    (['--workers', '1,x'], 'is not a list of numbers'), (['--rounds', '0'], 'must be above 0'),
])
def test_wrong_arguments(monkeypatch, capsys, words, message):
    monkeypatch.setattr(sys, 'argv', ['sim', *words])
    with pytest.raises(SystemExit) as end:
        sim.main()
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_public_environment_that_cannot_be_made_is_one_line(monkeypatch, capsys):
    from chef_bringup.setup import SetupError, benchmarks

    def fail(*_):
        raise SetupError('.venv-public_sim cannot be made; no network')
    monkeypatch.setattr(benchmarks, 'ensure', fail)
    monkeypatch.setattr(sys, 'argv', ['sim'])
    assert sim.main() == 2
    assert capsys.readouterr().err == 'sim: .venv-public_sim cannot be made; no network\n'

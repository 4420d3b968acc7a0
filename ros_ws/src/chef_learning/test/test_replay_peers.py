# SPDX-License-Identifier: Apache-2.0
"""Parts of `./chef bench replay --peers`, without the peers: asking readers, comparing transitions, the table."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from chef_task.spaces import CAMERAS, IMAGE_SHAPE

FOLDER = Path(__file__).resolve().parents[4] / 'benchmarks'
if not (FOLDER / '_replay_comparison.py').is_file():
    pytest.skip('not in the repository', allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import _replay_comparison as comparison     # noqa: E402
import _replay_readers as readers           # noqa: E402

EPISODES, STEPS, N_STEP, DISCOUNT = 2, 7, 3, 0.9


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    shape = EPISODES * (STEPS + 1), len(CAMERAS), *IMAGE_SHAPE
    comparison.write_data(folder, np.random.default_rng(0).integers(0, 256, shape, np.uint8), EPISODES)
    return folder


def start(data, name):
    settings = json.dumps({'n_step': N_STEP, 'discount': DISCOUNT, 'batch': 4, 'threads': 1})
    return comparison.Process(name, [sys.executable, str(comparison.SCRIPT), name, str(data), settings])


def child(code):
    return comparison.Process('it', [sys.executable, '-S', '-c', code])


@pytest.mark.parametrize('name', ['ours', 'ours_raw'])
def test_our_readers_give_the_data_set(data, tmp_path, name):
    transitions = list(range(EPISODES * STEPS))
    expected = comparison.reference(data, transitions, N_STEP, DISCOUNT)
    with start(data, name) as process:
        process.ask(do='build')
        assert process.ask(do='open')['transitions'] == len(transitions)
        process.ask(do='read', transitions=transitions, path=str(tmp_path / 'read.npz'))
        comparison.check(name, np.load(tmp_path / 'read.npz'), expected)
        drawn = process.ask(do='draw', seconds=0)
        assert drawn['transitions'] == 8 and drawn['seconds'] > 0 and drawn['memory'] > 1
        with pytest.raises(comparison.ComparisonError, match=f"{name}: ValueError: cannot do 'sing'"):
            process.ask(do='sing')
    assert comparison.size_of(data / comparison.READERS[name][2][0]) > 0


def test_the_reference_ends_where_episodes_do(data):
    expected = comparison.reference(data, [0, STEPS - 1, STEPS, 2 * STEPS - 1], N_STEP, DISCOUNT)
    first = np.load(data / 'arrays' / '000000.npz')
    returns = sum(DISCOUNT**i * first['rewards'][1 + i] for i in range(N_STEP))
    np.testing.assert_allclose(expected['returns'][0], returns, rtol=1e-6)
    np.testing.assert_array_equal(expected['next_images'][1], first['images'][STEPS])
    # the second episode ends by a force stop, after which nothing follows
    np.testing.assert_allclose(expected['discounts'], [DISCOUNT**3, DISCOUNT, DISCOUNT**3, 0.0], rtol=1e-6)
    assert expected['last'].tolist() == [False, True, False, True]


def test_a_transition_that_differs_is_named(data):
    expected = comparison.reference(data, list(range(STEPS)), N_STEP, DISCOUNT)
    for key in ('images', 'next_state', 'returns'):
        got = {k: v.copy() for k, v in expected.items()}
        got[key].reshape(-1)[-1] += 1
        with pytest.raises(comparison.ComparisonError, match=f'torchrl: {key} are not those'):
            comparison.check('torchrl', got, expected)
    got['next_images'] = got['next_images'] + 1
    with pytest.raises(comparison.ComparisonError, match='lerobot: next_images'):
        comparison.check('lerobot', got, expected)
    for key in ('next_images', 'next_state'):       # LeRobot has no row of an episode's last state
        got[key] = np.where(expected['last'].reshape(-1, *[1] * (expected[key].ndim - 1)), 0, expected[key])
    got['returns'] = expected['returns']
    comparison.check('lerobot_rows', got, expected)


@pytest.mark.parametrize('line, message', [
    ('hello\n', "it: answered 'hello', which is no answer"), ('[1]\n', 'which is no answer'),
    ('{"error": "OSError: gone"}\n', 'it: OSError: gone'),
])
def test_answers_that_are_none(line, message):
    with pytest.raises(comparison.ComparisonError, match=message):
        comparison.parse('it', line)


def test_a_reader_that_ends_or_hangs():
    with child('raise SystemExit(3)') as process:
        with pytest.raises(comparison.ComparisonError, match="it: ended with status 3 at 'open'"):
            process.ask(do='open')
    with child('import sys; sys.stdin.read()') as process:
        with pytest.raises(comparison.ComparisonError, match="it: no answer to 'open' within 0 s"):
            process.ask(do='open', timeout_s=0.2)


def test_the_table():
    figures = {'ours': comparison.Figures([100.0, 400.0, 200.0], 0.001, 50.4, 20.0, 60_000),
               'ours_raw': comparison.Figures([1000.0, 4000.0, 1000.0], 0.002, 40.0, 10.0, 100_000),
               'torchrl': comparison.Figures([50.0, 100.0, 200.0], 0.1, 400.0, 60.0, 290_000)}
    rows = comparison.table_rows('rendered', figures, 10)
    assert rows[0].endswith('| ours, `compressed` | 200 (100 to 400) |  | 10.00 | 1.0 | 50 | 20 | 6.0 |')
    assert rows[2].endswith('| torchrl, LazyMemmapStorage | 100 (50 to 200) | 2.00 | 20.00 | 100.0 | 400 | 60 | 29.0 |')
    assert all(row.count('|') == len(comparison.HEAD) + 1 for row in rows)


def test_every_reader_of_the_table_is_there():
    assert set(comparison.READERS) == set(readers.READERS)


def test_memory_counts_what_was_written():
    before = readers.memory()
    block = np.ones(64 << 20, np.uint8)
    assert 60 < readers.memory() - before < 80 and block[0]


def test_peers_that_cannot_be_installed_are_one_line(monkeypatch, capsys):
    setup = pytest.importorskip('chef_bringup.setup', reason='of another package')
    from chef_bringup.setup import benchmarks

    def fail(*_):
        raise setup.SetupError('.venv-replay_peers cannot be made; the packages come over the network: pip failed')

    monkeypatch.setattr(benchmarks, 'ensure', fail)
    monkeypatch.setattr(sys, 'argv', ['replay', '--peers'])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(FOLDER / 'replay.py'), run_name='__main__')
    assert end.value.code == 2
    assert capsys.readouterr().err == ('replay: .venv-replay_peers cannot be made; the packages come over the network: '
                                       'pip failed\n')

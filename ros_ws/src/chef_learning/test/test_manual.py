# SPDX-License-Identifier: Apache-2.0
"""docs/learner.md says what is so: all settings, all metrics, baselines that load, files and functions that exist."""

import re
from pathlib import Path

import pytest
import yaml
from conftest import SMALL, small_config
from test_learner import random_batch

import chef_learning
from chef_learning import settings_table
from chef_learning.config import LearnerConfig
from chef_learning.learner import Learner
from chef_learning.settings_table import insert, settings_of

MANUAL = Path(__file__).resolve().parents[4] / 'docs' / 'learner.md'
pytestmark = pytest.mark.skipif(not MANUAL.is_file(), reason='not in the repository')
TEXT = MANUAL.read_text(encoding='utf-8') if MANUAL.is_file() else ''


def section(name):
    return re.search(rf'^## {name}$(.*?)(?=^## |\Z)', TEXT, re.M | re.S)[1]


def test_every_setting_has_a_text():
    rules = settings_of(LearnerConfig)
    assert len({name for name, _, _ in rules}) == len(rules) > 40
    assert all(rule['doc'] and '|' not in rule['doc'] for _, _, rule in rules)


def test_the_settings_are_those_of_the_code():
    assert insert(TEXT) == TEXT, 'python -m chef_learning.settings_table docs/learner.md writes them anew'


def test_the_table_is_written_between_its_marks_and_nowhere_else(tmp_path, monkeypatch, capsys):
    path = tmp_path / 'x.md'
    path.write_text(f'before\n{settings_table.BEGIN}\nwas here before\n{settings_table.END}\nafter\n')
    monkeypatch.setattr('sys.argv', ['settings_table', str(path)])
    assert settings_table.main() == 0
    text = path.read_text()
    assert text.startswith('before\n') and text.endswith('\nafter\n') and 'was here before' not in text and '`mpo.epsilon`' in text
    path.write_text('no marks')
    assert settings_table.main() == 2 and path.read_text() == 'no marks'
    path.unlink()
    assert settings_table.main() == 2
    assert capsys.readouterr().err.count('\n') == 2


@pytest.mark.parametrize('algorithm', ['mpo', 'crr_exp', 'bc'])
def test_every_metric_is_described(rng, algorithm):
    network = {**SMALL['network'], 'gripper': 'categorical'}
    metrics = Learner(small_config(algorithm=algorithm, network=network)).step(random_batch(rng))
    described = section('Metrics')
    for name in metrics:
        head, slash, _ = name.partition('/')
        assert f'`{head}{"/TASK" if slash else ""}`' in described, name


def test_every_baseline_is_a_configuration():
    rows = [line.split(' | ') for line in section('Baselines').splitlines() if line.startswith('| ')][1:]
    assert len(rows) >= 10
    for _, lines in rows:
        for text in re.findall(r'`([^`]+)`', lines):
            values = yaml.safe_load(text)
            LearnerConfig.from_dict(values)


def test_files_and_functions_exist():
    folder = Path(chef_learning.__file__).parent
    named = re.findall(r'`(\w+\.py)(?:: ([\w.]+))?`', TEXT)
    assert len(named) > 20
    for file, name in named:
        source = (folder / file).read_text(encoding='utf-8')
        for part in filter(None, name.split('.')):
            assert re.search(rf'^\s*(def|class) {part}\b', source, re.M), (file, name)

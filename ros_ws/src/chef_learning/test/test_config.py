# SPDX-License-Identifier: Apache-2.0
"""The configuration: the shipped files load, and whatever is wrong is one line that names it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_learning.config import LearnerConfig

SHIPPED = Path(__file__).resolve().parents[4] / 'config' / 'learner'
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                      lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3),
                      max_leaves=5)
KEYS = st.sampled_from([*LearnerConfig.__dataclass_fields__, 'nonsense'])


FILES = sorted(p.name for p in SHIPPED.glob('*.yaml'))     # none where only the package is
in_repository = pytest.mark.skipif(not FILES, reason='not in the repository')


@pytest.mark.parametrize('name', FILES or ['none'])
@in_repository
def test_shipped_files_load(name):
    config = LearnerConfig.load(SHIPPED / name)
    assert LearnerConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


@in_repository
def test_files_are_of_the_observation_they_are_named_for():
    for observation in ('pixels', 'state'):
        assert LearnerConfig.load(SHIPPED / f'{observation}.yaml').observation == observation


@pytest.mark.parametrize('name, differences', [
    ('filtered_rl', {'replay': {'sets': ['successful']}}),
    ('filtered_bc', {'algorithm': 'bc', 'tasks': 'main', 'replay': {'sets': ['successful']}}),
])
@in_repository
def test_baselines_are_the_pixel_learner_but_for_the_lines_of_the_table(name, differences):
    values = yaml.safe_load((SHIPPED / 'pixels.yaml').read_text())
    replay = {**values['replay'], **differences['replay']}
    expected = LearnerConfig.from_dict({**values, **differences, 'replay': replay})
    assert LearnerConfig.load(SHIPPED / f'{name}.yaml') == expected


@pytest.mark.parametrize('text, message', [
    ('batch: 3', "unknown key 'batch'"), ('network: {size: 3}', "unknown key 'network.size'"),
    ('batch_size: 0', 'batch_size must be at least 1'),
    ('batch_size: 1.5', 'batch_size must be a whole number'),
    ('batch_size: true', 'batch_size'), ('discount: 1', 'discount must be below 1'),
    ('discount: .nan', 'discount must be a finite number'), ('observation: sound', 'one of pixels, state'),
    ('network: {torso: [1, x]}', r'network.torso\[1\]'), ('network: 3', 'network must be a mapping'),
    ('- 1', 'must be a mapping'), ('a: [', 'not YAML'), ('mpo: {epsilon: -1}', 'mpo.epsilon must be above 0'),
])
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / 'learner.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as e:
        LearnerConfig.load(path)
    assert str(e.value).startswith(f'{path}: ') and '\n' not in str(e.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ValueError, match='cannot be read'):
        LearnerConfig.load(tmp_path / 'none.yaml')
    (tmp_path / 'x.yaml').write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match='not YAML'):
        LearnerConfig.load(tmp_path / 'x.yaml')


def test_numbers_without_a_dot_are_numbers():
    assert LearnerConfig.from_dict(yaml.safe_load('mpo: {epsilon: 1e-3}')).mpo.epsilon == 1e-3


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / 'x.yaml').write_text('')
    assert LearnerConfig.load(tmp_path / 'x.yaml') == LearnerConfig()


@settings(max_examples=200)
@given(VALUES | st.dictionaries(KEYS, VALUES, max_size=3))
def test_garbage_is_a_value_error(values):
    try:
        LearnerConfig.from_dict(values)
    except ValueError as e:
        assert len(str(e).splitlines()) == 1

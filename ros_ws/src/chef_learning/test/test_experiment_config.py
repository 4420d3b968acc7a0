# SPDX-License-Identifier: Apache-2.0
"""experiment.yaml: what it may say, and one line that names what is wrong in it."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chef_learning.experiment import report
from chef_learning.experiment.config import ExperimentConfig, changed
from chef_learning.experiment.folder import Experiment, ExperimentError
from chef_learning.experiment.published import ABLATIONS

STAGES = ['collect', {'explore': {'grid': {'network.torso': [[64], [256, 256]], 'haptics': [True, False]},
                                  'candidates': {'alone': {'tasks': 'main'}}}}, 'execute', 'finetune', 'execute']


def test_all_combinations_and_those_with_a_name():
    config = ExperimentConfig.from_dict({'learner': {'batch_size': 8}, 'stages': STAGES})
    found = config.stages[1].candidates
    assert list(found) == ['torso=64,haptics=true', 'torso=64,haptics=false', 'torso=256x256,haptics=true',
                           'torso=256x256,haptics=false', 'alone']
    assert found['torso=256x256,haptics=false'].network.torso == (256, 256)
    assert not found['torso=256x256,haptics=false'].haptics and found['torso=64,haptics=true'].haptics
    assert found['alone'].tasks == 'main' and all(c.batch_size == 8 for c in found.values())
    assert [s.name for s in config.stages] == ['01_collect', '02_explore', '03_execute', '04_finetune', '05_execute']
    assert list(ExperimentConfig.from_dict({'stages': ['collect', 'explore']}).stages[1].candidates) == ['base']


def test_a_collect_stage_may_have_a_learner_of_its_own():
    stages = [{'collect': {'episodes': 3}}, {'collect': {'changes': {'tasks': 'composite'}}}, 'execute']
    config = ExperimentConfig.from_dict({'learner': {'batch_size': 8}, 'stages': stages})
    assert config.stages[0].learner is None and config.stages[0].settings.episodes == 3
    assert (config.stages[1].learner.tasks, config.stages[1].learner.batch_size) == ('composite', 8)


@given(st.dictionaries(st.text('abc', min_size=1, max_size=2), st.integers(), max_size=3), st.integers())
def test_changing_a_setting_leaves_the_others_and_the_original_alone(rest, value):
    base = {'network': dict(rest), 'x': 1}
    before = yaml.safe_dump(base)
    out = changed(base, {'network.new': value})
    assert out == {'network': {**rest, 'new': value}, 'x': 1} and yaml.safe_dump(base) == before


@pytest.mark.parametrize('values, message', [
    ([], 'must be a mapping'), ({'stages': STAGES, 'speed': 3}, "unknown key 'speed'"), ({}, 'stages must be a list'),
    ({'stages': ['explore']}, 'explore (number 1) needs an earlier collect'),
    ({'stages': ['collect', 'finetune']}, 'needs an earlier explore'),
    ({'stages': ['collect', {'explore': {}}, 'finetune']}, 'needs an earlier execute'),
    ({'stages': [{'collect': {'changes': {'batch': 3}}}]}, "collect.changes: unknown key 'batch'"),
    ({'stages': ['collect', {'explore': {'candidates': {'COLLECT': {}}}}]}, 'cannot be the name'),
    ({'stages': ['dance']}, "there is no stage 'dance'"), ({'stages': [{'collect': 3}]}, 'must be a mapping'),
    ({'stages': [{'collect': {}, 'execute': {}}]}, 'must name one stage'),
    ({'stages': [{'collect': {'episodes': 0}}]}, 'episodes must be at least 1'),
    ({'stages': STAGES, 'triplets': [1, 1]}, 'each once'), ({'stages': STAGES, 'triplets': [6]}, 'at most 5'),
    ({'stages': STAGES, 'learner': {'batch': 3}}, "learner: unknown key 'batch'"),
    ({'stages': STAGES, 'observation': 'pixels'}, 'learner.observation is state'),
    ({'stages': ['collect', {'explore': {'grid': {'haptics': True}}}]}, 'must be a list of values'),
    ({'stages': ['collect', {'explore': {'candidates': {'a/b': {}}}}]}, 'cannot be the name'),
    ({'stages': ['collect', {'explore': {'candidates': {'a': {'batch': 1}}}}]}, "candidate a: unknown key 'batch'"),
    ({'stages': ['collect', {'explore': {'candidates': {'a': {'batch_size.x': 1}}}}], 'learner': {'batch_size': 3}},
     'batch_size is not a mapping'),
])
def test_mistakes_are_named(tmp_path, values, message):
    (tmp_path / 'experiment.yaml').write_text(yaml.safe_dump(values))
    with pytest.raises(ExperimentError) as e:
        Experiment(tmp_path)
    assert message in str(e.value) and str(e.value).startswith(f'{tmp_path}/experiment.yaml: ')
    assert '\n' not in str(e.value) and e.value.usage


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(ExperimentError, match='no such folder'):
        Experiment(tmp_path / 'none')
    with pytest.raises(ExperimentError, match='experiment.yaml: cannot be read'):
        Experiment(tmp_path)


def test_shipped_experiments_load():
    folder = Path(__file__).resolve().parents[4] / 'config' / 'experiments'
    if not folder.is_dir():
        pytest.skip('not in the repository')
    found = {path.name: Experiment(path) for path in folder.iterdir()}
    assert {'figure4', 'figure4_small', 'search', 'small', 'table2'} <= found.keys()
    # every row of the paper's that the report knows of is a candidate of one of them
    named = {name for e in found.values() for s in e.stages for name in s.candidates}
    made = {'fine-tuned', *(f'from-scratch-x{f:g}'.removesuffix('-x1') for e in found.values() for s in e.stages
                            if s.kind == 'finetune' for f in s.settings.scratch)}
    assert set(ABLATIONS) <= named | made
    # figure 4 (a) compares how was collected: those stages have the paper's rows as well
    small = found['figure4_small']
    rows = report._collecting(small, small.stages[4])
    assert {name: paper.partition(':')[0] for name, (_, paper) in rows.items()} == {
        '01_collect': 'shared-torsos', '02_collect': 'separate-critic-torsos', '03_collect': 'separate-actor-torsos',
        '04_collect': 'composite-reward'}
    assert rows['02_collect'][0] == '02_collect (network.share_critic_torso: false)'
    assert report._collecting(found['small'], found['small'].stages[2]) == {}

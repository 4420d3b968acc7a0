# SPDX-License-Identifier: Apache-2.0
"""A search proposes what its space allows, always the same from the same, and Optuna reads what it has found."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chef_learning.config import LearnerConfig
from chef_learning.experiment.config import ExperimentConfig, changed
from chef_learning.experiment.search import SAMPLERS, Search, Trial, export, propose

SPACE = {'haptics': [True, False], 'network.torso': {'choices': [[64], [256, 256]]}, 'discount': {'low': 0.9, 'high': 0.99},
         'optimizer.critic_rate': {'low': '1e-5', 'high': 1e-3, 'log': True}, 'mpo.action_samples': {'low': 4, 'high': 20, 'step': 4}}


def parse(space, **more):
    return Search.parse({'space': space, **more}, lambda change: LearnerConfig.from_dict(changed({}, change)), 'search')


def run(search, count, value=lambda p: 0.0, direction='maximize'):
    trials = []
    for _ in range(count):
        params = propose(search, direction, 3, trials)
        trials.append(Trial(params, 'complete', value(params)))
    return trials


def test_what_is_proposed_is_within_the_space_and_always_the_same():
    for sampler in SAMPLERS:
        search = parse(SPACE, sampler=sampler)
        trials = run(search, 4)
        assert trials == run(search, 4) and len({json.dumps(t.params) for t in trials}) == 4, sampler
        for trial in trials:
            values = {key: search.space[key].value(v) for key, v in trial.params.items()}
            config = LearnerConfig.from_dict(changed({}, values))
            assert config.network.torso in ((64,), (256, 256)) and 1e-5 <= config.optimizer.critic_rate <= 1e-3
            assert config.mpo.action_samples in range(4, 21, 4) and 0.9 <= config.discount <= 0.99


def test_the_next_follows_from_what_the_others_gave():
    search = parse({'discount': {'low': 0.0, 'high': 0.9}}, sampler='tpe')
    tried = [Trial({'discount': 0.09 * k}, 'complete', float(k)) for k in range(11)]
    assert propose(search, 'maximize', 0, tried)['discount'] > 0.6 > 0.3 > propose(search, 'minimize', 0, tried)['discount']
    failed = [*tried, Trial({'discount': 0.5}, 'fail'), Trial({'discount': 0.4}, 'running'),
              Trial({'discount': 0.2}, 'pruned', None, {5: 1.0})]
    assert 0.0 <= propose(search, 'maximize', 0, failed)['discount'] <= 0.9


def test_optuna_opens_what_is_kept(tmp_path):
    import optuna
    from optuna.storages.journal import JournalFileBackend
    search = parse({'haptics': [True, False]}, sampler='random')
    trials = [*run(search, 3, lambda p: 1.5), Trial({'haptics': 'true'}, 'pruned', None, {10: 0.5}), Trial({'haptics': 'false'})]
    for _ in range(2):      # anew each time
        export(search, 'maximize', 'x/02_explore/t1', trials, tmp_path / 'study.journal')
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(
        JournalFileBackend(str(tmp_path / 'study.journal'))))
    assert [t.state.name for t in study.trials] == ['COMPLETE'] * 3 + ['PRUNED', 'RUNNING'] and study.best_value == 1.5
    assert study.trials[3].intermediate_values == {10: 0.5} and study.trials[4].params == {'haptics': 'false'}
    assert [p.name for p in tmp_path.iterdir()] == ['study.journal']


_values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2))
_entries = st.one_of(_values, st.lists(_values, max_size=3), st.dictionaries(
    st.sampled_from(['low', 'high', 'log', 'step', 'choices', 'x']), _values, max_size=4),
    st.fixed_dictionaries({'low': st.integers(-5, 300), 'high': st.integers(-5, 300)},
                          optional={'log': st.booleans(), 'step': st.integers(-1, 40)}))
_keys = st.sampled_from(['haptics', 'batch_size', 'discount', 'network.torso', 'network', 'mpo.epsilon', 'algorithm', 'nothing', 3])


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(_keys, _entries, max_size=2))
def test_a_space_is_one_that_can_be_searched_or_one_line(space):
    try:
        search = parse(space, sampler='random')
    except ValueError as e:
        assert str(e).startswith('search.space') and '\n' not in str(e)
        return
    params = propose(search, 'maximize', 0, [])
    values = {key: search.space[key].value(v) for key, v in params.items()}
    for key, value in values.items():
        LearnerConfig.from_dict(changed({}, {key: value}))


EXPLORE = {'search': {'space': {'haptics': [True, False]}}}


@pytest.mark.parametrize('explore, message', [
    ({'search': 3}, 'search must be a mapping'), ({'search': {}}, 'search.space must be a mapping'),
    ({'search': {'space': {'haptics': []}}}, 'search.space.haptics: there must be something'),
    ({'search': {'space': {'haptic': [1]}}}, 'search.space.haptic: there is no such setting'),
    ({'search': {'space': {'network': [1]}}}, 'is a group of settings'),
    ({'search': {'space': {'haptics': [True, 3]}}}, 'haptics must be true or false'),
    ({'search': {'space': {'haptics': {'low': 0, 'high': 1}}}}, 'is no number'),
    ({'search': {'space': {'batch_size': {'low': 0, 'high': 4}}}}, 'batch_size must be at least 1'),
    ({'search': {'space': {'batch_size': {'low': 1.5, 'high': 4}}}}, 'low must be a whole number'),
    ({'search': {'space': {'discount': {'low': 0, 'high': 0.9, 'log': True}}}}, 'log needs a low above 0'),
    ({'search': {'space': {'batch_size': {'low': 1, 'high': 4, 'step': 5}}}}, 'step must be above 0'),
    ({'search': {**EXPLORE['search'], 'sampler': 'best'}}, 'sampler must be one of tpe'),
    ({'search': {**EXPLORE['search'], 'tries': 3}}, "unknown key 'tries'"),
    ({**EXPLORE, 'objective': 'loss'}, 'measure must be one of fitted_value'),
    ({**EXPLORE, 'objective': {'task': 'lift'}, 'candidates': {'a': {'tasks': 'main'}}}, 'lift is not learned where tasks is main'),
    ({'search': {'space': {'discount': [0.9]}}, 'objective': 'critic_loss'}, 'discount: cannot be searched by critic_loss'),
    ({'candidates': {'a': {}, 'b': {'n_step': 1}}, 'objective': 'critic_loss'}, 'candidates differ in n_step'),
    ({'search': {'space': {'algorithm': ['bc']}}, 'objective': 'critic_loss'}, 'has no critic'),
    ({**EXPLORE, 'objective': 'act', 'early_stopping': {}}, 'early_stopping.measure: is needed'),
    ({**EXPLORE, 'early_stopping': {'rule': 'mean'}}, 'early_stopping: rule must be one of'),
    ({**EXPLORE, 'candidates': {'trial-0001': {}}}, 'cannot be the name of a candidate beside a search'),
])
def test_mistakes_are_named(explore, message):
    with pytest.raises(ValueError) as e:
        ExperimentConfig.from_dict({'stages': ['collect', {'explore': explore}]})
    assert message in str(e.value) and str(e.value).startswith('stages[1].explore') and '\n' not in str(e.value)


def test_what_is_not_asked_for_is_not_there():
    stage = ExperimentConfig.from_dict({'stages': ['collect', 'explore']}).stages[1]
    assert (stage.search, stage.objective, stage.stopping, stage.wanted) == (None, None, None, 1)
    stage = ExperimentConfig.from_dict({'stages': ['collect', {'explore': {**EXPLORE, 'candidates': {'a': {}}}}]}).stages[1]
    assert stage.objective.measure == 'fitted_value' and stage.stopping is None and stage.wanted == 21

# SPDX-License-Identifier: Apache-2.0
"""Policies by name, and every way in which that fails: one PolicyError of one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import SMALL, random_observation, small_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chef_learning import policy_files
from chef_learning.learner import Learner
from chef_learning.policy import MAIN, NetworkPolicy, Policy, PolicyError, RandomPolicy, load_policy
from chef_task.rewards import TASKS

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
                    max_leaves=5)


def one_step(observation='state'):
    return {k: v[0].numpy() for k, v in random_observation(np.random.default_rng(0), 1, observation).items()}


def save(folder, observation='state', **changes):
    config = small_config(observation, **changes)
    learner = Learner(config)
    return policy_files.save_version(folder, learner.actor, config, 3, TASKS), learner


@pytest.mark.parametrize('observation', ['state', 'pixels'])
def test_round_trip(tmp_path, observation):
    folder, learner = save(tmp_path, observation)
    policy = NetworkPolicy.load(folder, seed=1)
    assert isinstance(policy, Policy)
    assert (policy.version, policy.observation, policy.tasks) == ('v000001', observation, TASKS)
    o = one_step(observation)
    batch = {k: learner_tensor(v) for k, v in o.items()}
    mean, std = (x[2, 0].detach().numpy() for x in learner.actor(batch)[:2])
    for a, b in zip(policy._distribution(o, 2), (mean, std)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    action = policy.act(o)
    assert action.shape == (5,) and action.dtype == np.float32
    assert sorted(p.name for p in folder.iterdir()) == ['policy.json', 'policy.safetensors']


def test_a_categorical_gripper_opens_or_closes(tmp_path):
    folder, _ = save(tmp_path, network={**SMALL['network'], 'gripper': 'categorical'})
    policy = NetworkPolicy.load(folder, seed=1)
    actions = np.array([policy.act(one_step('state')) for _ in range(60)])
    assert actions.shape == (60, 5) and actions.dtype == np.float32
    assert set(actions[:, 4]) == {-1.0, 1.0}


def learner_tensor(array):
    import torch
    return torch.from_numpy(array)[None]


def test_versions_count_up_and_latest_takes_the_newest(tmp_path):
    first = load_policy('latest', tmp_path)
    assert isinstance(first, RandomPolicy) and first.version == 'v000000'
    for n in (1, 2):
        assert save(tmp_path)[0].name == f'v00000{n}'
        assert load_policy('latest', tmp_path).version == f'v00000{n}'
    (tmp_path / '.v000003.partial').mkdir()
    (tmp_path / 'v9').mkdir()
    assert load_policy('latest', tmp_path).version == 'v000002'
    assert load_policy(str(tmp_path / 'v000001'), tmp_path).version == 'v000001'


def test_evaluation_acts_for_the_main_task_only(tmp_path):
    save(tmp_path, schedule={'period': 1})
    main, mixed = (load_policy('latest', tmp_path, 0, evaluate) for evaluate in (True, False))
    seen = [set(), set()]
    for _ in range(50):
        for policy, tasks in zip((main, mixed), seen):
            policy.act(one_step())
            tasks.add(policy.task)
    assert seen == [{MAIN}, set(range(6))]


def test_the_same_seed_gives_the_same_actions(tmp_path):
    save(tmp_path)
    for spec in ('latest', 'random'):
        a, b, c = (load_policy(spec, tmp_path, seed) for seed in (1, 1, 2))
        actions = [np.stack([p.act(one_step()) for _ in range(30)]) for p in (a, b, c)]
        assert np.array_equal(actions[0], actions[1]) and not np.array_equal(actions[0], actions[2])


def test_random_actions_are_bounded_uniform_and_correlated():
    policy = RandomPolicy(0)
    x = np.stack([policy.act({}) for _ in range(20000)])
    assert np.abs(x).max() <= 1 and np.abs(x.mean(0)).max() < 0.06
    assert np.abs(x.var(0) - 1 / 3).max() < 0.03
    assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1] - 0.9) < 0.02


@pytest.mark.parametrize('spec, message', [
    ('', 'none of'), ('newest', 'none of'), ('a b:C', 'none of'), ('x:', 'none of'), ('\0', 'none of'),
    ('no_such_module_xyz:Policy', 'no module'), ('json:Policy', 'no class'), ('json:dumps', 'no class'),
    ('json:JSONEncoder', "no method 'reset'"), ('broken_module:P', 'division by zero'),
    ('broken_class:NoAct', "no method 'act'"), ('broken_class:Fails', 'RuntimeError: two lines'),
])
def test_bad_names(tmp_path, monkeypatch, spec, message):
    (tmp_path / 'broken_module.py').write_text('1 / 0\n')
    (tmp_path / 'broken_class.py').write_text(
        'class NoAct:\n    def reset(self): pass\n'
        'class Fails(NoAct):\n    def __init__(self): raise RuntimeError("two\\nlines")\n'
        '    def act(self, o): pass\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PolicyError, match=message) as e:
        load_policy(spec, tmp_path)
    assert '\n' not in str(e.value)


@given(st.text(max_size=20))
def test_any_name_gives_a_policy_or_a_policy_error(spec):
    try:
        load_policy(spec if spec != '.' else '', '/nonexistent')
    except PolicyError as e:
        assert len(str(e).splitlines()) == 1


def test_users_classes(tmp_path, monkeypatch):
    (tmp_path / 'mine.py').write_text(
        'class P:\n    needs_objects = True\n    def __init__(self, seed): self.seed = seed\n'
        '    def reset(self): pass\n    def act(self, o): return [0.0] * 5\n')
    monkeypatch.syspath_prepend(tmp_path)
    policy = load_policy('mine:P', tmp_path, seed=7)
    assert policy.seed == 7 and policy.needs_objects


def test_torch_is_not_imported_for_random_policies(tmp_path):
    code = ('import sys; from chef_learning.policy import load_policy; '
            f'load_policy("random", ""); load_policy("latest", {str(tmp_path)!r}); '
            'sys.exit("torch" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_damaged_files(tmp_path):
    folder, _ = save(tmp_path)
    tensors, info = folder / 'policy.safetensors', folder / 'policy.json'
    good, text = tensors.read_bytes(), info.read_text()
    for data in (good[:-1], b'', good[:-1] + bytes([good[-1] ^ 1])):
        tensors.write_bytes(data)
        with pytest.raises(PolicyError, match='truncated or damaged'):
            NetworkPolicy.load(folder)
    tensors.unlink()
    with pytest.raises(PolicyError, match='cannot be read'):
        NetworkPolicy.load(folder)
    tensors.write_bytes(good)
    values = json.loads(text)
    values['network']['torso'] = [17]
    info.write_text(json.dumps(values))
    with pytest.raises(PolicyError, match='do not fit') as e:
        NetworkPolicy.load(folder)
    assert '\n' not in str(e.value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_garbage_in_policy_json(tmp_path, data):
    folder = tmp_path / 'v000001'
    if not folder.exists():
        save(tmp_path)
        (tmp_path / 'good.json').write_text((folder / 'policy.json').read_text())
    values = json.loads((tmp_path / 'good.json').read_text())
    key = data.draw(st.sampled_from(sorted(values)))
    values[key] = data.draw(JSON)
    text = data.draw(st.sampled_from([json.dumps(values), json.dumps(values)[:-5], json.dumps(values[key])]))
    (folder / 'policy.json').write_text(text)
    try:
        policy_files.read_info(folder)
    except PolicyError as e:
        assert len(str(e).splitlines()) == 1


def test_a_network_that_its_tensors_do_not_fill_takes_no_memory(tmp_path):
    """64 layers of 8192 x 8192 would be 17 GiB."""
    import resource
    folder, _ = save(tmp_path)
    info = json.loads((folder / 'policy.json').read_text())
    info['network']['torso'] = [8192] * 64
    (folder / 'policy.json').write_text(json.dumps(info))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PolicyError, match='do not fit'):
        load_policy(str(folder), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024      # KiB

# SPDX-License-Identifier: Apache-2.0
"""Compiled networks do what they did, and are saved as they were. Not with the real compiler, which takes a minute."""

import pytest
import torch
import yaml
from conftest import SMALL, small_config
from test_learner import random_batch

from chef_learning import learner as module
from chef_learning import policy_files, train
from chef_learning.checkpoint import resume, save
from chef_learning.learner import Learner
from chef_learning.policy import load_policy
from chef_task.bag.synthetic import write_synthetic_episode


@pytest.fixture
def compiler(monkeypatch):
    """Traces and differentiates as the real one; counts the graphs."""
    graphs = []
    inner = torch._dynamo.lookup_backend('aot_eager')
    monkeypatch.setattr(module, 'COMPILER', lambda graph, inputs: graphs.append(graph) or inner(graph, inputs))
    yield graphs
    torch._dynamo.reset()


@pytest.mark.parametrize('algorithm', ['mpo', 'crr_exp', 'bc'])
def test_updates_are_those_without_it(rng, tmp_path, compiler, algorithm):
    plain, compiled = (Learner(small_config(algorithm=algorithm, compile=c), seed=1) for c in ('never', 'always'))
    for update in range(6):     # target networks are copied after 5
        batch = random_batch(rng)
        assert compiled.step(batch) == pytest.approx(plain.step(batch), rel=1e-4, abs=1e-6)
        if update == 3:
            count = len(compiler)
    assert len(compiler) == count >= 1        # nothing is compiled anew once it runs
    for name in ('actor', 'critic', 'target_actor'):
        one, two = getattr(plain, name).state_dict(), getattr(compiled, name).state_dict()
        assert list(one) == list(two)
        for key in one:
            torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-5)
    save(compiled, tmp_path)
    resume(plain, tmp_path)     # either takes the other's
    policy_files.save_version(tmp_path / 'policies', compiled.actor, compiled.config, 3, compiled.domain.tasks)
    assert load_policy('latest', tmp_path / 'policies').version == 'v000001'


def test_a_compiler_that_fails_is_one_line(tmp_path, monkeypatch, capsys):
    def broken(graph, inputs):
        raise OSError('no C++ compiler\nat hand')

    monkeypatch.setattr(module, 'COMPILER', broken)
    write_synthetic_episode(tmp_path / 'episodes', 0, 10, 'state')
    (tmp_path / 'learner.yaml').write_text(yaml.safe_dump({**SMALL, 'observation': 'state', 'compile': 'always'}))
    assert train.main([str(tmp_path), '--config', str(tmp_path / 'learner.yaml'), '--device', 'cpu']) == 1
    error = capsys.readouterr().err
    assert error.startswith('chef train: the networks cannot be compiled') and 'no C++ compiler at hand' in error
    assert error.count('\n') == 1
    torch._dynamo.reset()


def test_automatic_is_for_gpus_with_a_compiler(monkeypatch, compiler, rng):
    cpu, gpu = torch.device('cpu'), torch.device('cuda')
    for triton in (None, object()):
        monkeypatch.setattr('importlib.util.find_spec', lambda name, triton=triton: triton)
        assert [module._compiles(s, cpu) for s in ('auto', 'always', 'never')] == [False, True, False]
        assert [module._compiles(s, gpu) for s in ('auto', 'always', 'never')] == [triton is not None, True, False]

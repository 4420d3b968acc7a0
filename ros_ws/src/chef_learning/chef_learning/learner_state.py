# SPDX-License-Identifier: Apache-2.0
"""What of a learner goes into a checkpoint, and back."""

from __future__ import annotations

import json
from typing import Any

import torch

from chef_learning.config import NetworkConfig
from chef_task.errors import one_line
from chef_task.rewards import TASKS
from chef_task.settings import to_dict
from chef_task.yaml_file import short

_NETWORK = json.loads(json.dumps(to_dict(NetworkConfig())))
_STATEFUL = ('actor', 'critic', 'target_actor', 'target_critic', 'duals',
             'actor_optimizer', 'critic_optimizer', 'dual_optimizer')


def state_of(learner) -> dict:
    """See `Learner.state`."""
    return {
        'updates': learner.updates,
        'config': json.dumps(learner.config.to_dict(), sort_keys=True),
        'tasks': json.dumps(learner.domain.tasks), 'labels': learner.labels, 'seed': learner.seed,
        'encoding': learner.domain.encoding_version,
        'generator': learner.generator.get_state(), 'device': learner.device.type,
        **{name: getattr(learner, name).state_dict() for name in _STATEFUL},
    }


def restore(learner, state: dict) -> None:
    """See `Learner.restore`."""
    try:
        _check_same(learner, state)
        loads = {name: _checked(getattr(learner, name), name, state[name]) for name in _STATEFUL}
        if type(state['updates']) is not int or state['updates'] < 0:
            raise ValueError(f'updates is {short(state["updates"])}')
        seed = int(state['seed'])
        if state.get('device', learner.device.type) == learner.device.type:
            learner.generator.set_state(state['generator'])
        else:       # another kind of generator, whose numbers cannot go on here
            learner.generator.manual_seed(seed + state['updates'])
        for name, values in loads.items():
            getattr(learner, name).load_state_dict(values)
        learner.seed, learner.updates = seed, state['updates']
    except Exception as e:      # of torch's and NumPy's own checks, on a file that may hold anything
        raise ValueError(f'its contents do not fit: {one_line(e) or type(e).__name__}') from None


def _check_same(learner, state: dict) -> None:
    """ValueError unless the state is of the learner's observation, network, tasks and labels."""
    there, here = json.loads(state['config']), json.loads(json.dumps(learner.config.to_dict()))
    for config in (there, here):    # shifts leave the networks as they are; older ones lack newer settings
        config['network'] = {**_NETWORK, **config['network'], 'shift': 0}
    for key in ('observation', 'haptics', 'network'):
        if there[key] != here[key]:
            raise ValueError(f'it was made with another {key}: {there[key]!r}, configured is {here[key]!r}')
    # a state from before there were labels is of the six, as recorded; from before encodings were counted, of the first
    others = (('tasks', tuple(json.loads(state.get('tasks', json.dumps(TASKS)))), learner.domain.tasks),
              ('labels', state.get('labels', ''), learner.labels),
              ('encoding', state.get('encoding', 1), learner.domain.encoding_version))
    for key, made, wanted in others:
        if made != wanted:
            raise ValueError(f'it was made with other {key}: {made!r}, configured is {wanted!r}')


def _checked(part: Any, name: str, values: Any) -> dict:
    """What to load into one of the stateful parts, of the same keys and shapes; ValueError if it is not."""
    if not isinstance(part, torch.optim.Optimizer):
        _check_alike(values, part.state_dict(), name)
        return values
    parameters, moments = part.param_groups[0]['params'], values['state']
    if moments:     # there are none before the first update
        _check_alike(moments, {i: {'step': torch.tensor(0.0), 'exp_avg': p, 'exp_avg_sq': p}
                               for i, p in enumerate(parameters)}, name)
    # rates and the like stay those of this configuration
    return {'state': moments, 'param_groups': part.state_dict()['param_groups']}


def _check_alike(there: Any, here: Any, where: str) -> None:
    """ValueError unless `there` is made of dicts and dense tensors as `here` is."""
    if isinstance(here, dict):
        if not isinstance(there, dict) or list(there) != list(here):
            raise ValueError(f'{where} has other entries')
        for key in here:
            _check_alike(there[key], here[key], f'{where}.{key}')
    elif (not isinstance(there, torch.Tensor) or there.shape != here.shape or there.dtype != here.dtype
          or there.layout != torch.strided or there.device.type != 'cpu'):
        raise ValueError(f'{where} is not a {here.dtype} tensor of shape {tuple(here.shape)}')

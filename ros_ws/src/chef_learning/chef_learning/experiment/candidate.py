# SPDX-License-Identifier: Apache-2.0
"""One candidate: a process that learns offline what candidate.json says, and tells in result.json what came of it.

    python -m chef_learning.experiment.candidate <experiment>/02_explore/t1/<candidate>
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

from chef_learning.checkpoint_names import checkpoints
from chef_learning.config import LearnerConfig
from chef_learning.experiment import pruning
from chef_learning.experiment.folder import RESULT, SPEC, ExperimentError, commit, now, read_json
from chef_learning.experiment.objective import EarlyStopping
from chef_task.whole_file import write_json

_LEFT_S = 60.0      # s, for an update and a checkpoint


def main(folder: Path) -> int:
    """Returns the exit code: 0 done, 1 failed, which result.json tells as well, 128 + signal where it was stopped."""
    asked, parent = [], os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: asked.append(n))
    begun = time.monotonic()
    spent = read_json(folder / 'spent.json').get('seconds', 0.0)
    try:
        # an experiment that was killed cannot ask
        result = learn(folder, read_json(folder / SPEC), lambda: bool(asked) or os.getppid() != parent)
    except Exception as e:      # whatever it is, the other candidates go on
        if isinstance(e, (KeyError, TypeError, AttributeError)):
            raise
        write_json(folder / RESULT, {'error': ' '.join(f'{e}'.split()) or type(e).__name__, 'finished': now()})
        print(f'{folder.name}: {e}', file=sys.stderr)
        return 1
    seconds = round(spent + time.monotonic() - begun, 1)
    write_json(folder / 'spent.json', {'seconds': seconds})
    if result is None:
        return 128 + (asked or [signal.SIGTERM])[0]
    write_json(folder / RESULT, {**result, 'seconds': seconds, 'finished': now(), 'commit': commit()})
    return 0


def learn(folder: Path, spec: dict, stop) -> dict | None:
    """Learns to the number of updates, from a checkpoint of its own, or from the one it starts with; None: stopped.

    Raises:
      ExperimentError: there is too little data.
      ReplayError, CheckpointError, RunLocked, OSError, FloatingPointError: by the learner.
    """
    import torch

    from chef_learning.run_learner import RunLearner
    torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 1)))
    config, own = LearnerConfig.from_dict(spec['learner']), folder / 'learner' / 'checkpoints'
    if spec['start'] and not checkpoints(own):
        own.mkdir(parents=True, exist_ok=True)
        start = checkpoints(Path(spec['start']) / 'learner' / 'checkpoints')
        if not start:
            raise ExperimentError(f'{spec["start"]}: has no checkpoint to start from')
        shutil.copy(start[-1], own / f'.{start[-1].name}')
        (own / f'.{start[-1].name}').rename(own / start[-1].name)
    def open_learner() -> RunLearner:
        return RunLearner(config, folder, spec['seed'], bags=[Path(p) for p in spec['data']], sync_period_s=float('inf'),
                          publish_period_s=float('inf'), stop=stop, device='auto')
    with _once_free(open_learner, stop) as learner:
        learner.sync()
        _say(learner)
        if not learner.ready and not learner.stopped:
            raise ExperimentError(f'{len(learner.replay)} transitions to learn from, {config.replay.min_transitions} are '
                                  f'needed' + ''.join(f'; the set {s} is empty' for s in learner.replay.empty_sets))
        target, end = spec['updates'] + spec['start_updates'], {}
        while not learner.stopped and learner.updates < target:
            if spec.get('early_stopping') and (end := _look(folder, spec, learner, stop)):
                break
            learner.work()
            _say(learner)
        if not learner.stopped:
            learner.publish()
        learner.save()
        _say(learner)
        if learner.stopped or stop():
            return None
        if spec.get('objective') and not end:
            from chef_learning.experiment.measure import measured
            value = measured(spec['objective']['measure'], learner, spec['objective'], stop)
            if value is None:
                return None
            end = {'objective': value}
        return {'updates': learner.updates, 'policy': f'policies/{learner.version}', 'transitions': len(learner.replay),
                'episodes': len(learner.replay.episodes), **end}


def _look(folder: Path, spec: dict, learner, stop) -> dict:
    """Early stopping: {'pruned': why} if the candidate is to learn no further, {} if it goes on."""
    from chef_learning.experiment.measure import measured
    values = dict(spec['early_stopping'])
    stopping, update = EarlyStopping(**values), learner.updates - spec['start_updates']
    if not stopping.due(update):
        return {}
    name, own = stopping.measure or spec['objective']['measure'], pruning.read(folder)
    if update not in own:
        learner.save()      # measuring may take long
        value = measured(name, learner, spec['objective'], stop)
        if value is None:
            return {}
        own = pruning.append(folder, update, value)
        print(f'after {update} updates: {name} {value:.6g}', flush=True)
    # where it was killed it looks again, as it did then
    why = pruning.reason(stopping, name, {u: v for u, v in own.items() if u <= update}, pruning.beside(folder))
    return {'pruned': why} if why else {}


def _once_free(open_learner, stop):
    """Opens it; one that an experiment left behind when it was killed is about to end."""
    from chef_learning.run_learner import RunLocked
    deadline = time.monotonic() + _LEFT_S
    while True:
        try:
            return open_learner()
        except RunLocked:
            if stop() or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _say(learner) -> None:
    for event in learner.take_events():
        print(event, flush=True)


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1])))

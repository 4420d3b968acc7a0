# SPDX-License-Identifier: Apache-2.0
"""Candidates that learn offline, several at a time, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from chef_learning.config import LearnerConfig
from chef_learning.experiment.candidate import RESULT, SPEC
from chef_learning.experiment.folder import Experiment, ExperimentError, read_json, write_json
from chef_learning.experiment.config import Stage

_LOOK_S, _END_S = 0.2, 60.0


@dataclass(frozen=True)
class Candidate:
    """What one is to learn.

    start: folder of the candidate whose checkpoint it goes on from, None: from scratch. updates: the stage's if None.
    """

    config: LearnerConfig
    start: Path | None = None
    updates: int | None = None


def train(experiment: Experiment, stage: Stage, candidates: Mapping[int, Mapping[str, Candidate]],
          say: Callable[[str], None], stop: Callable[[], bool]) -> bool:
    """Trains what has no result yet; a candidate that fails does not stop the others.

    Args:
      candidates: triplet to name to candidate.

    Returns:
      Whether all are done; false where it was stopped.

    Raises:
      ExperimentError: every candidate of a triplet failed.
    """
    waiting = []
    for triplet, of in candidates.items():
        for name, candidate in of.items():
            folder = experiment.place(stage, triplet) / name
            if not read_json(folder / RESULT):
                _specify(experiment, stage, triplet, folder, candidate)
                waiting.append(folder)
    running: dict[Path, subprocess.Popen] = {}
    total = sum(map(len, candidates.values()))
    try:
        while (waiting or running) and not stop():
            while waiting and len(running) < stage.settings.jobs:
                folder = waiting.pop(0)
                running[folder] = _start(folder)
                say(f'{stage.name}: {folder.parent.name}/{folder.name} learns '
                    f'({total - len(waiting)} of {total})')
            time.sleep(_LOOK_S)
            for folder, process in list(running.items()):
                if process.poll() is not None:
                    del running[folder]
                    say(f'{stage.name}: {folder.parent.name}/{folder.name} {_outcome(folder, process.returncode)}')
    finally:
        _end(running)
    if stop():
        return False
    for triplet, of in candidates.items():
        if all('error' in read_json(experiment.place(stage, triplet) / name / RESULT) for name in of):
            raise ExperimentError(f'{stage.name}: all candidates of triplet {triplet} failed; remove their {RESULT} to try '
                                  'again')
    return True


def _specify(experiment: Experiment, stage: Stage, triplet: int, folder: Path, candidate: Candidate) -> None:
    start = candidate.start
    write_json(folder / SPEC, {
        'learner': candidate.config.to_dict(), 'updates': candidate.updates or stage.settings.updates,
        'seed': experiment.config.head.seed,
        'data': [str(p.resolve()) for p in experiment.data(stage, triplet)], 'start': str(start.resolve()) if start else '',
        'start_updates': read_json(start / RESULT)['updates'] if start else 0})


def _start(folder: Path) -> subprocess.Popen:
    with open(folder / 'log.txt', 'ab') as log:
        return subprocess.Popen([sys.executable, '-m', 'chef_learning.experiment.candidate', str(folder)], stdout=log,
                                stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                                env={**os.environ, 'OMP_NUM_THREADS': '1'})


def _outcome(folder: Path, code: int) -> str:
    result = read_json(folder / RESULT)
    if not result:      # it was killed, or broke where it should not
        result = {'error': f'its process ended with {code}; see {folder / "log.txt"}'}
        if code >= 0:
            write_json(folder / RESULT, result)
    return f'failed: {result["error"]}' if 'error' in result else f'is done: {result["updates"]} updates'


def _end(running: Mapping[Path, subprocess.Popen]) -> None:
    """Lets all save what they have learned."""
    for process in running.values():
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    for process in running.values():
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def trained(experiment: Experiment, stage: Stage, triplet: int) -> dict[str, Path]:
    """Name to folder of the candidates of a stage that did not fail."""
    out = {}
    for path in sorted(experiment.place(stage, triplet).glob(f'*/{RESULT}')):
        if 'error' not in read_json(path):
            out[path.parent.name] = path.parent
    return out

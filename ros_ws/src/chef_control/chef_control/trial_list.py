# SPDX-License-Identifier: Apache-2.0
"""Trials that a collection runs instead of episodes of one policy: in their order, each with its policy and scene.

    {"trials": [{"number": 0, "policy": "/runs/a/policies/v000012", "seed": 7}, ...]}

Which were run lies beside, a line each, written once the bag is sealed: so a collection that dies goes on with the rest.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

DONE = 'trials_done.jsonl'


@dataclass(frozen=True)
class Trial:
    """number: of the trial, unique. policy: as the policy node's parameter. seed: of the scene."""

    number: int
    policy: str
    seed: int


def read_done(folder: Path) -> dict[int, str]:
    """Number of a trial to the id of its episode, as far as they were run. What was cut off at the end counts as not run."""
    try:
        lines = (folder / DONE).read_text(encoding='utf-8').splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[int(entry['number'])] = str(entry['episode'])
        except (ValueError, KeyError, TypeError):
            continue
    return found


class TrialList:
    """The trials of a file that are left.

    Args:
      path: of the file.
      folder: for the list of those that were run.

    Raises:
      ValueError: the file cannot be read or is none; one line that names it.
    """

    def __init__(self, path: Path, folder: Path):
        self._folder = folder
        try:
            entries = json.loads(path.read_text(encoding='utf-8'))['trials']
            trials = [Trial(**entry) for entry in entries]
            for t in trials:
                if type(t.number) is not int or type(t.seed) is not int or not isinstance(t.policy, str) \
                        or not 0 <= t.seed < 2**31:
                    raise ValueError(f'{t} is no trial')
            if len({t.number for t in trials}) < len(trials):
                raise ValueError('two trials have the same number')
        except OSError as e:
            raise ValueError(f'{path}: cannot be read: {e.strerror}') from None
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            raise ValueError(f'{path}: not a list of trials: {e}') from None
        ran = read_done(folder)
        self.left = [t for t in trials if t.number not in ran]

    def done(self, episode_id: str) -> None:
        """The first of those left was run."""
        trial = self.left.pop(0)
        append_done(self._folder, trial.number, episode_id)


def append_done(folder: Path, number: int, episode_id: str) -> None:
    """A trial was run; on disk once this returns."""
    with open(folder / DONE, 'a', encoding='utf-8') as f:
        # a line that was cut off must not swallow this one
        f.write(('\n' if f.tell() else '') + json.dumps({'number': number, 'episode': episode_id}))
        f.flush()
        os.fsync(f.fileno())

# SPDX-License-Identifier: Apache-2.0
"""The quick form of the fault campaign: some of every sort, another choice for another seed.

All of it, hundreds of faults: `./chef bench faults`.
"""

from __future__ import annotations

import os
import random

from campaign import Campaign, Job
from kind import EPISODE
from kinds import KINDS

SEED = int(os.environ.get('CHEF_FAULTS_SEED', '0'))
# one of each sort, by how the names of its kinds begin; tests/test_kill.py kills
CHOICE = (('silence:', 'delay:'), ('drop:', 'nan:'), ('power cut',), ('pause:',), ('spike:',), ('freeze:', 'absurd:'),
          ('hiccup:',))
SLOW = ('pause:safety', 'pause:recorder', 'drop:safety/state', 'drop:recorder/state')


def chosen(seed: int) -> list[Job]:
    rng = random.Random(seed)
    known = [n for n, kind in KINDS.items() if kind.profile == 'state' and n not in SLOW]
    return [Job(KINDS[rng.choice([n for n in known if n.startswith(sort)])], seed) for sort in CHOICE]


def test_faults_of_different_kinds(tmp_path):
    verdicts = Campaign(tmp_path).run(chosen(SEED))
    failed = [f'{v.kind}, seed {v.seed}: {"; ".join(v.problems)}' for v in verdicts if not v.passed]
    assert not failed, '\n'.join(failed)
    assert len(verdicts) == len(CHOICE)


def test_every_kind_that_ends_an_episode_says_with_which_reason():
    from chef_task.records import Reason

    assert len(KINDS) > 60
    for kind in KINDS.values():
        assert kind.reasons or kind.ends != EPISODE, kind.name
        for reason in kind.reasons:
            known = reason.split(':')[0]
            assert '\\' in reason or known in {r.value for r in Reason}, f'{kind.name}: {reason}'

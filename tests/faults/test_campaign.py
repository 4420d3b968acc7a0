# SPDX-License-Identifier: Apache-2.0
"""The quick form of the fault campaign: some of every sort, another choice for another seed.

All of it, hundreds of faults: `./chef bench faults`.
"""

from __future__ import annotations

import os
import random

from campaign import Campaign, Job
from kinds import EPISODE, KINDS

SEED = int(os.environ.get('CHEF_FAULTS_SEED', '0'))
# how many of the kinds whose names begin so; in this order, the last one ends the graph
CHOICE = (('hiccup:', 1), ('silence:', 1), ('nan:', 1), ('drop:', 1), ('delay:', 1), ('spike:', 1), ('pause:', 1),
          ('power cut', 1), ('kill:', 1))
SLOW = ('pause:safety', 'pause:recorder', 'drop:safety/state', 'drop:recorder/state')
ENDS_THE_GRAPH_SLOWLY = ('kill:episode', 'kill:supervisor')


def chosen(seed: int) -> list[Job]:
    rng = random.Random(seed)
    jobs = []
    for prefix, count in CHOICE:
        names = [n for n, kind in KINDS.items() if n.startswith(prefix) and kind.profile == 'state'
                 and n not in SLOW + ENDS_THE_GRAPH_SLOWLY]
        jobs += [Job(KINDS[n], seed) for n in rng.sample(names, count)]
    return jobs


def test_a_dozen_faults_of_different_kinds(tmp_path):
    verdicts = Campaign(tmp_path).run(chosen(SEED))
    assert len(verdicts) == sum(count for _, count in CHOICE)
    failed = [f'{v.kind}, seed {v.seed}: {"; ".join(v.problems)}' for v in verdicts if not v.passed]
    assert not failed, '\n'.join(failed)


def test_every_kind_that_ends_an_episode_says_with_which_reason():
    from chef_task.records import Reason

    assert len(KINDS) > 60
    for kind in KINDS.values():
        assert kind.reasons or kind.ends != EPISODE, kind.name
        for reason in kind.reasons:
            known = reason.split(':')[0]
            assert '\\' in known or known in {r.value for r in Reason}, f'{kind.name}: {reason}'

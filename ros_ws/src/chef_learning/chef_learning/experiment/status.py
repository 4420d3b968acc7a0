# SPDX-License-Identifier: Apache-2.0
"""How far an experiment is: a line a stage, with a bar, what it is at, and what it has cost."""

from __future__ import annotations

from chef_learning.checkpoint_names import newest_update
from chef_learning.experiment.config import Stage
from chef_learning.experiment.executed import PLAN, Executed, ran
from chef_learning.experiment.folder import RESULT, SPEC, Experiment, episodes_in, read_json

_WIDTH = 20     # of a bar, characters


def progress(experiment: Experiment, stage: Stage) -> tuple[float, str]:
    """Share of a stage that is done, and that in words."""
    triplets, settings = experiment.config.head.triplets, stage.settings
    if stage.kind in ('collect', 'execute'):
        there = sum(ran(experiment, stage, t) if stage.kind == 'execute' else
                    len(episodes_in(experiment.place(stage, t) / 'episodes')) for t in triplets)
        plans = [len(read_json(experiment.place(stage, t) / PLAN).get('trials', [])) for t in triplets]
        wanted = settings.episodes * len(triplets) if stage.kind == 'collect' else sum(plans)
        return (there / wanted if wanted else 0.0), f'{there} of {wanted or "?"} episodes'
    done = failed = pruned = 0
    share = count = 0.0
    for triplet in triplets:
        for path in experiment.place(stage, triplet).glob(f'*/{SPEC}'):
            result, spec = read_json(path.with_name(RESULT)), read_json(path)
            failed += 'error' in result
            pruned += 'pruned' in result
            done += bool(result) and 'error' not in result and 'pruned' not in result
            begun = newest_update(path.parent / 'learner' / 'checkpoints') - spec['start_updates']
            share += 1.0 if result else max(0.0, min(1.0, begun / spec['updates']))
            count += 1
    wanted = max(count, (stage.wanted or 1) * len(triplets))
    return share / wanted, f'{done} of {wanted:.0f} candidates' + (f', {pruned} stopped early' if pruned else '') + (
        f', {failed} failed' if failed else '')


def lines(experiment: Experiment) -> list[str]:
    """One a stage, and the results of those that were executed."""
    out, hours, follows = [f'{experiment.name}: {experiment.folder}'], 0.0, True
    for stage in experiment.stages:
        state = experiment.state(stage)
        spent = state.get('seconds', 0.0) / 3600
        hours += spent
        share, words = progress(experiment, stage)
        finished = experiment.finished(stage)
        word = 'finished' if finished else 'begun' if state else 'next' if follows else ''
        follows = follows and finished
        bar = ('#' * round(_WIDTH * share)).ljust(_WIDTH, '.')
        out.append(f'{stage.name:<14} [{bar}] {word:<9} {words}, {spent:.2f} h')
        if stage.kind == 'execute' and state:
            for triplet in experiment.config.head.triplets:
                out += [f'    triplet {triplet}: {line}' for line in Executed(experiment, stage, triplet).summary]
    return [*out, f'{hours:.2f} h in all']

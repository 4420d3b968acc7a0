# SPDX-License-Identifier: Apache-2.0
"""The report of an experiment: one page (HTML, nothing beside it) and the same as Markdown.

It says what the trials say, and from which data, settings and commits; what was not run is not in it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chef_learning.experiment import pictures, published, trials
from chef_learning.experiment.config import Stage
from chef_learning.experiment.executed import Executed, collected, episode_of
from chef_learning.experiment.folder import RESULT, Experiment, episodes_in, read_json
from chef_learning.experiment.report_page import Item, Table, html, markdown
from chef_learning.experiment.training import words
from chef_task.bag.either import read_either
from chef_task.bag.report import rolling
from chef_task.records import EpisodeRecord
from chef_task.rewards import TASKS
from chef_task.spaces import CONTROL_HZ
from chef_task.whole_file import write_text


class Reading:
    """Reads what several parts of a report are made of once."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        self._short: dict[Path, tuple[int, tuple[float, ...]]] = {}     # of 100,000s of episodes, so not all of each
        self._executed: dict[tuple[int, int], Executed] = {}

    def record(self, path: Path) -> EpisodeRecord:
        """Of an episode, anew."""
        record = read_either(path)
        self._short[path] = record.steps, record.returns
        return record

    def short(self, path: Path) -> tuple[int, tuple[float, ...]]:
        """Steps and returns of an episode."""
        if path not in self._short:
            self.record(path)
        return self._short[path]

    def executed(self, stage: Stage, triplet: int) -> Executed:
        """An execute stage's trials, read and ranked."""
        key = stage.number, triplet
        if key not in self._executed:
            self._executed[key] = Executed(self._experiment, stage, triplet, self.record)
        return self._executed[key]


def write(experiment: Experiment, cell: Path | None = None) -> list[Path]:
    """Writes report.html and report.md into the folder; OSError if the disk refuses.

    Args:
      cell: file of the simulated cell, for pictures of episodes that were kept without any.
    """
    parts = sections(experiment, cell)
    out = []
    for name, text in (('report.html', html(experiment.name, parts)), ('report.md', markdown(experiment.name, parts))):
        write_text(experiment.folder / name, text)
        out.append(experiment.folder / name)
    return out


def sections(experiment: Experiment, cell: Path | None = None) -> list[tuple[str, list[Item]]]:
    """Title and content of each section; content is text, a table, or a picture (PNG or JPEG)."""
    begun, reading = [s for s in experiment.stages if experiment.state(s)], Reading(experiment)
    out: list[tuple[str, list[Item]]] = [('Success by stage', [_success(experiment, reading)]),
                                   ('What was shown', _shown(experiment, begun, reading)),
                                   ('Ablations', [_ablations(experiment, begun, reading)])]
    for stage in begun:
        if stage.kind == 'collect':
            out.append((f'{stage.name}: returns while collecting', _curve(experiment, stage, reading)))
        elif stage.kind == 'execute':
            out.append((f'{stage.name}: trials', _trials(experiment, stage, reading)))
        else:
            out.append((f'{stage.name}: candidates', [_candidates(experiment, stage)]))
    executed = [s for s in begun if s.kind == 'execute']
    if executed:
        out.append((f'{executed[-1].name}: seen', _pictures(experiment, executed[-1], cell, reading)))
    return [*out, ('What it has cost', [_cost(experiment, reading)]), ('Where it came from', [_lineage(experiment)])]


def _success(experiment: Experiment, reading: Reading) -> Table:
    """A row a stage: COLLECT's last 200 episodes, EXECUTE's best candidate, and the mean of all its trials."""
    head = ['', *(f'triplet {t}' for t in experiment.config.head.triplets)]
    rows = []
    for stage in experiment.stages:
        cells: dict[str, list[str]] = {}
        for triplet in experiment.config.head.triplets:
            if stage.kind == 'collect':
                paths = episodes_in(experiment.place(stage, triplet) / 'episodes')[-200:]
                scores = {'as it collected, its last 200 episodes': list(map(reading.record, paths))}
            elif stage.kind == 'execute':
                result = reading.executed(stage, triplet)
                found, best = result.found, [s.name for s in result.ranked[:1]]
                scores = {'the best': list(found[best[0]].values()) if best else [],
                          'all its trials': [r for of in found.values() for r in of.values()]}
            else:
                continue
            for name, done in scores.items():
                word = f' ({best[0]})' if name == 'the best' and best else ''
                cells.setdefault(name, []).append(_rate(trials.score(name, done)) + word if done else '-')
        rows += [[f'{stage.name}: {name}', *row] for name, row in cells.items() if any(c != '-' for c in row)]
    for name, values in published.STAGES:
        rows.append([name, *(f'{values[t - 1]:g} %' for t in experiment.config.head.triplets)])
    return head, rows


def _shown(experiment: Experiment, begun: Sequence[Stage], reading: Reading) -> list:
    """In sentences: the best of each execute stage, and each candidate against COLLECT's last policy in the same trials."""
    out = []
    for stage in (s for s in begun if s.kind == 'execute'):
        for triplet in experiment.config.head.triplets:
            result = reading.executed(stage, triplet)
            lines = result.summary[-1:] + result.versus
            out += [f'{stage.name}, triplet {triplet}, {stage.settings.task} by its mean: {" ".join(lines)}'] if lines else []
    return out or ['Nothing yet: no candidate was tried.']


def _ablations(experiment: Experiment, begun: Sequence[Stage], reading: Reading) -> Table:
    """All that were tried, beside what the paper says of the same change."""
    rows = []
    for stage in (s for s in begun if s.kind == 'execute'):
        task, ours = stage.settings.task, _collecting(experiment, stage)
        for triplet in experiment.config.head.triplets:
            for s in reading.executed(stage, triplet).ranked:
                name, paper = ours.get(s.name, (s.name, published.ABLATIONS.get(s.name, '-')))
                rows.append([stage.name, f'{triplet}', name, _rate(s), _return(s, task),
                             f'{100 * s.stops / s.trials:.0f} %', paper])
        for name, error in _failed(experiment, stage):
            rows.append([stage.name, '', name, error, '-', '-', published.ABLATIONS.get(name, '-')])
    return ['stage', 'triplet', 'candidate', 'success', 'return of the task that acted', 'ended early by force',
            'paper (robot) of the same change'], rows


def _collecting(experiment: Experiment, stage: Stage) -> dict[str, tuple[str, str]]:
    """Name of a collect stage's last policy to that with what its learner differs in, and to what the paper says of it; only
    where collect stages differ: one alone is no ablation.
    """
    collects = experiment.before(stage, 'collect')
    out = {}
    for collect in collects if any(c.learner for c in collects) else ():
        changes = collect.values.get('changes') or {}
        what = ', '.join(f'{k}: {json.dumps(v)}' for k, v in changes.items()) or 'as the experiment says'
        name = collected(experiment, collect)
        out[name] = f'{name} ({what})', published.of_collected(changes)
    return out


def _failed(experiment: Experiment, stage: Stage) -> list[tuple[str, str]]:
    """Candidates that never came to be tried, and why."""
    out = {}
    for training in experiment.before(stage, 'explore', 'finetune')[-1:]:
        for path in sorted(experiment.place(training).glob(f't*/*/{RESULT}')):
            if error := read_json(path).get('error'):
                out[path.parent.name] = f'not tried: {error}'
    return list(out.items())


def _return(score: trials.Score, task: str) -> str:
    low, high = score.spans[TASKS.index(task)]
    return f'{score.of(task):.1f} ({low:.1f} to {high:.1f})'


def _rate(score: trials.Score) -> str:
    low, high = score.interval
    return f'{100 * score.rate:.0f} % ({100 * low:.0f} to {100 * high:.0f}, {score.trials} episodes)'


def _trials(experiment: Experiment, stage: Stage, reading: Reading) -> list:
    out = []
    for triplet in experiment.config.head.triplets:
        rows = [[s.name, _rate(s), f'{s.stops}', f'{s.force:.1f}', *(f'{v:.1f}' for v in s.returns)]
                for s in reading.executed(stage, triplet).ranked]
        out += [f'Triplet {triplet}:'] if len(experiment.config.head.triplets) > 1 else []
        out.append((['candidate', 'success', 'force stops', 'peak force, N', *(f'return {t}' for t in TASKS)], rows))
    return out


def _pictures(experiment: Experiment, stage: Stage, cell: Path | None, reading: Reading) -> list:
    """Of the best candidate, see `pictures.choose`."""
    out: list = []
    for triplet in experiment.config.head.triplets:
        result = reading.executed(stage, triplet)
        for best in result.ranked[:1]:
            of, task = result.found[best.name], TASKS.index(stage.settings.task)
            for word, scene in pictures.choose(of, lambda r: r.returns[task]):
                film = pictures.film(episode_of(experiment, stage, triplet, best.name, scene), cell)
                if film:
                    out += [f'Triplet {triplet}, {best.name}, scene {scene}: {word} (return of {TASKS[task]} '
                            f'{of[scene].returns[task]:.1f}, {of[scene].termination_reason}, {of[scene].steps} steps)', film]
    return out or ['No pictures: the episodes have none, and they could not be simulated once more.']


def _candidates(experiment: Experiment, stage: Stage) -> Table:
    rows = []
    for triplet in experiment.config.head.triplets:
        for path in sorted(experiment.place(stage, triplet).glob(f'*/{RESULT}')):
            r = read_json(path)
            rows.append([f'{triplet}', path.parent.name, words(r), f'{r.get("updates", "")}',
                         f'{r.get("transitions", "")}', f'{r.get("seconds", 0.0) / 3600:.2f}' if 'seconds' in r else ''])
    return ['triplet', 'candidate', 'outcome', 'updates', 'transitions', 'h'], rows


def _curve(experiment: Experiment, stage: Stage, reading: Reading) -> list:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(TASKS), figsize=(15, 2.8), layout='constrained')
    for triplet in experiment.config.head.triplets:
        paths = episodes_in(experiment.place(stage, triplet) / 'episodes')
        returns = np.array([reading.short(p)[1] for p in paths]).reshape(-1, len(TASKS))
        for k, axis in enumerate(axes):
            axis.plot(rolling(returns[:, k], max(5, len(paths) // 20)), label=f'triplet {triplet}')
    for task, axis in zip(TASKS, axes):
        axis.set(title=task, xlabel='episodes', ylim=(0, None))
    axes[0].set_ylabel('return, rolling mean')
    axes[0].legend(frameon=False, fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, dpi=90)
    plt.close(figure)
    return [data.getvalue()]


def _cost(experiment: Experiment, reading: Reading) -> Table:
    """Hours: of robots, of training (all learners of a stage together), and of the stage as the clock has it."""
    rows, sums = [], np.zeros(3)
    for stage in experiment.stages:
        state = experiment.state(stage)
        if not state:
            continue
        steps, training = 0, 0.0
        for triplet in experiment.config.head.triplets:
            place = experiment.place(stage, triplet)
            steps += sum(reading.short(p)[0] for folder in experiment.made(stage, triplet) for p in episodes_in(folder))
            training += sum(read_json(p).get('seconds', 0.0) for p in place.glob(f'*/{RESULT}'))
        if stage.kind == 'collect' and stage.settings.policy == 'learner':
            training = state['seconds']         # its learner runs beside the cells, all the time
        hours = np.array([steps / CONTROL_HZ, training, state['seconds']]) / 3600
        sums += hours
        rows.append([stage.name, *(f'{h:.2f}' for h in hours)])
    return ['stage', 'robot, h', 'training, h', 'by the clock, h'], [*rows, ['in all', *(f'{h:.2f}' for h in sums)]]


def _lineage(experiment: Experiment) -> Table:
    rows = []
    for stage in experiment.stages:
        state = experiment.state(stage)
        if state:
            data = '; '.join(f'{t}: ' + ', '.join(f'{d["episodes"]} of {d["stage"]} ({d["sha256"][:12]})' for d in of)
                             for t, of in state['data'].items() if of)
            rows.append([stage.name, ', '.join(c[:12] for c in state['commits']), data or '-'])
    return ['stage', 'commits', 'data it began with: episodes and SHA-256'], rows

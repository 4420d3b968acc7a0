# SPDX-License-Identifier: Apache-2.0
"""The report of an experiment: one page (HTML, nothing beside it) and the same as Markdown.

It says what the trials say, and from which data, settings and commits; what was not run is not in it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from chef_learning.experiment import trials
from chef_learning.experiment.candidate import RESULT
from chef_learning.experiment.config import Stage
from chef_learning.experiment.folder import Experiment, episodes_in, read_json, write_text
from chef_learning.experiment.stages import ranking, records, summary
from chef_task.bag.report import rolling
from chef_task.episode_file import read_record
from chef_task.rewards import TASKS
from chef_task.spaces import CONTROL_HZ

# Success, %, of the paper's robot (CHEF 2023, tables I and II) and of the public simulation's specialists (Lee et al.
# 2021), triplets 1 to 5.
PUBLISHED = (
    ('public simulation: state-based MPO specialists, 1000 episodes each', (77.7, 47.4, 83.5, 79.9, 89.5)),
    ('paper (robot): after COLLECT', (6, 22, 27, 47, 29)),
    ('paper (robot): after the first offline stage', (92, 89, 93, 92, 97)),
    ('paper (robot): after FINE-TUNE', (96, 97, 95, 95, 98)),
)
_STYLE = ('body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}'
          'table{border-collapse:collapse;margin:1em 0}td,th{border-bottom:1px solid #ddd;padding:.25em .7em;text-align:left}'
          'img{max-width:100%}code{background:#f3f3f3}')
Table = tuple[Sequence[str], list[Sequence[str]]]


def write(experiment: Experiment) -> list[Path]:
    """Writes report.html and report.md into the folder; OSError if the disk refuses."""
    parts = sections(experiment)
    out = []
    for name, text in (('report.html', html(experiment.name, parts)), ('report.md', markdown(experiment.name, parts))):
        write_text(experiment.folder / name, text)
        out.append(experiment.folder / name)
    return out


def sections(experiment: Experiment) -> list[tuple[str, list]]:
    """Title and content of each section; content is text, a table, or a picture (PNG)."""
    out: list[tuple[str, list]] = [('Success by stage', [_success(experiment)])]
    for stage in experiment.stages:
        if not experiment.state(stage):
            continue
        if stage.kind == 'collect':
            out.append((f'{stage.name}: returns while collecting', _curve(experiment, stage)))
        elif stage.kind == 'execute':
            out.append((f'{stage.name}: trials', _trials(experiment, stage)))
        else:
            out.append((f'{stage.name}: candidates', [_candidates(experiment, stage)]))
    return [*out, ('What it has cost', [_cost(experiment)]), ('Where it came from', [_lineage(experiment)])]


def _success(experiment: Experiment) -> Table:
    head = ['', *(f'triplet {t}' for t in experiment.config.head.triplets)]
    rows = []
    for stage in experiment.stages:
        cells, best = [], []
        for triplet in experiment.config.head.triplets:
            if stage.kind == 'collect':
                done = [read_record(p) for p in episodes_in(experiment.place(stage, triplet) / 'episodes')[-200:]
                        if p.is_file()]
                scores = [trials.score('as it collected, its last 200 episodes', done)] if done else []
            elif stage.kind == 'execute':
                scores = ranking(stage, records(experiment, stage, triplet))
            else:
                continue
            best += [s.name for s in scores[:1]]
            cells.append(_rate(scores[0]) if scores else '-')
        if any(c != '-' for c in cells):
            rows.append([f'{stage.name}: {", ".join(dict.fromkeys(best))}', *cells])
    for name, values in PUBLISHED:
        rows.append([name, *(f'{values[t - 1]:g} %' for t in experiment.config.head.triplets)])
    return head, rows


def _rate(score: trials.Score) -> str:
    low, high = score.interval
    return f'{100 * score.rate:.0f} % ({100 * low:.0f} to {100 * high:.0f}, {score.trials} episodes)'


def _trials(experiment: Experiment, stage: Stage) -> list:
    out = []
    for triplet in experiment.config.head.triplets:
        found = records(experiment, stage, triplet)
        rows = [[s.name, _rate(s), f'{s.stops}', f'{s.force:.1f}', *(f'{v:.1f}' for v in s.returns)]
                for s in ranking(stage, found)]
        out.append((['candidate', 'success', 'force stops', 'peak force, N', *(f'return {t}' for t in TASKS)], rows))
        lines = summary(stage, found)
        out.append(f'Triplet {triplet}, {stage.settings.task} by its mean: {lines[-1] if lines else "no trials yet."}')
    return out


def _candidates(experiment: Experiment, stage: Stage) -> Table:
    rows = []
    for triplet in experiment.config.head.triplets:
        for path in sorted(experiment.place(stage, triplet).glob(f'*/{RESULT}')):
            r = read_json(path)
            rows.append([f'{triplet}', path.parent.name, r.get('error', 'done'), f'{r.get("updates", "")}',
                         f'{r.get("transitions", "")}', f'{r.get("seconds", 0.0) / 3600:.2f}' if 'seconds' in r else ''])
    return ['triplet', 'candidate', 'outcome', 'updates', 'transitions', 'h'], rows


def _curve(experiment: Experiment, stage: Stage) -> list:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(TASKS), figsize=(15, 2.8), layout='constrained')
    for triplet in experiment.config.head.triplets:
        paths = [p for p in episodes_in(experiment.place(stage, triplet) / 'episodes') if p.is_file()]
        returns = np.array([read_record(p).returns for p in paths]).reshape(-1, len(TASKS))
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


def _cost(experiment: Experiment) -> Table:
    rows = []
    for stage in experiment.stages:
        steps = sum(read_record(p).steps for t in experiment.config.head.triplets
                    for p in episodes_in(experiment.place(stage, t) / 'episodes') if p.is_file()) \
            if stage.kind in ('collect', 'execute') else 0
        state = experiment.state(stage)
        if state:
            rows.append([stage.name, f'{steps / CONTROL_HZ / 3600:.2f}', f'{state["seconds"] / 3600:.2f}'])
    return ['stage', 'robot time, h', 'computer, h'], rows


def _lineage(experiment: Experiment) -> Table:
    rows = []
    for stage in experiment.stages:
        state = experiment.state(stage)
        if state:
            data = '; '.join(f'{t}: ' + ', '.join(f'{d["episodes"]} of {d["stage"]} ({d["sha256"][:12]})' for d in of)
                             for t, of in state['data'].items() if of)
            rows.append([stage.name, ', '.join(c[:12] for c in state['commits']), data or '-'])
    return ['stage', 'commits', 'data it began with: episodes and SHA-256'], rows


def html(title: str, parts: list[tuple[str, list]]) -> str:
    """One page that fetches and runs nothing."""
    out = ['<!doctype html><html lang="en"><head><meta charset="utf-8">',
           '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src \'unsafe-inline\'">',
           f'<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>']
    for name, content in parts:
        out.append(f'<h2>{escape(name)}</h2>')
        for item in content:
            if isinstance(item, bytes):
                out.append(f'<img alt="{escape(name)}" src="data:image/png;base64,{base64.b64encode(item).decode()}">')
            elif isinstance(item, str):
                out.append(f'<p>{escape(item)}</p>')
            else:
                head, rows = item
                out.append('<table>' + ''.join(
                    '<tr>' + ''.join(f'<{tag}>{escape(str(c))}</{tag}>' for c in row) + '</tr>'
                    for tag, row in [('th', head), *(('td', r) for r in rows)]) + '</table>')
    return ''.join(out) + '</body></html>\n'


def markdown(title: str, parts: list[tuple[str, list]]) -> str:
    """The same without pictures."""
    out = [f'# {title}', '']
    for name, content in parts:
        out += [f'## {name}', '']
        for item in content:
            if isinstance(item, bytes):
                out += ['(a picture, see report.html)', '']
            elif isinstance(item, str):
                out += [item, '']
            else:
                head, rows = item
                out += [_row(head), _row(['---'] * len(head)), *map(_row, rows), '']
    return '\n'.join(out)


def _row(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(str(c).replace('|', '\\|') for c in cells) + ' |'

# SPDX-License-Identifier: Apache-2.0
"""Markdown of what the tracker's benchmark measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chef_task.rewards import TASKS

HIDDEN = ((0.9, 1.01, 'over 90 %'), (0.6, 0.9, '60 to 90 %'), (0.3, 0.6, '30 to 60 %'), (0.0, 0.3, 'below 30 %'))
BINARY = ('stack', 'stack_leave')
CLOSE = 0.05        # of two rewards in [0, 1]


def tables(rows: Sequence[dict], objects: Sequence[str]) -> str:
    """All tables of rows of the log."""
    flat = [{'object': o, 'triplet': r['triplet'], 'kind': r['kind'], 'error': r['error_mm'][i],
             'corners': r['corners_mm'][i], 'sigma': r['sigma_mm'][i],
             'confidence': r['confidence'][i], 'views': r['views'][i],
             'dropped': r['dropped'][i], 'seen': float(np.mean(r['seen'][i])), 'grasped': r['grasp'] == 2 and o == 'red'}
            for r in rows for i, o in enumerate(objects)]
    ms = np.array([r['ms'] for r in rows])
    groups: list[tuple[str, Callable[[dict], bool]]] = [('all', lambda f: True)]
    groups += [(o, lambda f, o=o: f['object'] == o) for o in objects]
    groups += [(f'triplet {t}', lambda f, t=t: f['triplet'] == t) for t in sorted({r['triplet'] for r in rows})]
    groups += [(k, lambda f, k=k: f['kind'] == k) for k in sorted({r['kind'] for r in rows})]
    groups += [(f'seen {name}', lambda f, a=a, b=b: a <= f['seen'] < b) for a, b, name in HIDDEN]
    groups += [('red in the gripper', lambda f: f['grasped']), ('from two cameras', lambda f: f['views'] == 2),
               ('confidence below 0.9', lambda f: f['confidence'] < 0.9)]
    lines = ['| objects | n | not found | median, mm | p95, mm | p99, mm | worst, mm | corners, median / p95, mm |',
             '|---' * 8 + '|']
    for name, chosen in groups:
        of = [f for f in flat if chosen(f)]
        found = np.array([f['error'] for f in of if f['error'] is not None])
        corners = np.array([f['corners'] for f in of if f['corners'] is not None])
        if len(found):
            m, p95, p99, worst = *np.percentile(found, [50, 95, 99]), found.max()
            lines.append(f'| {name} | {len(of)} | {len(of) - len(found)} | {m:.2f} | {p95:.2f} | {p99:.2f} | {worst:.1f} '
                         f'| {np.median(corners):.1f} / {np.percentile(corners, 95):.1f} |')
    lines += ['', f'{len(rows)} sets of three pictures, CPU time of one core for a set: median {np.median(ms):.1f} ms, '
              f'p95 {np.percentile(ms, 95):.1f} ms, worst {ms.max():.1f} ms.', '']
    return '\n'.join(lines + _rewards(rows))


def _rewards(rows: Sequence[dict]) -> list[str]:
    both = [r for r in rows if r['tracked'] is not None]
    true, tracked = (np.array([r[k] for r in both]) for k in ('true', 'tracked'))
    lines = ['| task | agrees | mean difference | largest | true over 0.5 | of them agreeing |', '|---' * 6 + '|']
    for i, task in enumerate(TASKS):
        apart = np.abs(true[:, i] - tracked[:, i])
        good = apart <= (0 if task in BINARY else CLOSE)
        high = true[:, i] > 0.5
        share = f'{100 * good[high].mean():.1f} %' if high.any() else '-'
        lines.append(f'| {task} | {100 * good.mean():.2f} % | {apart.mean():.5f} | {apart.max():.3f} | {high.sum()} '
                     f'| {share} |')
    lines += ['', f'Of {len(rows)} scenes; red or blue not found in {len(rows) - len(both)}. Agreement: the same value for '
              f'{" and ".join(BINARY)}, else within {CLOSE:g}.']
    return lines

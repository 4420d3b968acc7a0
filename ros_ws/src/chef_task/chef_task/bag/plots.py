# SPDX-License-Identifier: Apache-2.0
"""One picture of an episode: filmstrip of the cameras, rewards with the task that acted, wrist force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from chef_task.bag.commands.text import printable
from chef_task.bag.errors import BagError
from chef_task.bag.reader import Episode
from chef_task.limits import Limits
from chef_task.spaces import CAMERAS

_FRAMES = 10
_INK, _GREY, _FORCE, _LIMIT = '#222222', '#8a8a8a', '#3b6ea5', '#b3261e'
_LANES = ('#5b7fa6', '#6a9a83', '#b08a4e', '#a86a79', '#7d6ba8', '#4d8f9e')


def save_filmstrip(episode: Episode, output: Path) -> None:
    """Writes the picture as PNG; rows without data (cameras of a state episode) are left out.

    Raises:
      BagError: damaged bag, or the file cannot be written.
    """
    steps = episode.steps()
    if not steps:
        raise BagError(f'{episode.path}: has no Steps')
    origin = steps[0].stamp
    end_s = max((steps[-1].stamp - origin) / 1e9, 1e-3)
    cameras = [c for c in CAMERAS if episode.has(c)]
    lanes = max(len(episode.record.tasks), 1)
    heights = [1.12] * len(cameras) + [0.36 * lanes + 0.2, 1.9]
    figure = Figure(figsize=(13, sum(heights) + 1.5), dpi=110, layout='constrained')
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.03, hspace=0.0)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    figure.suptitle(_title(episode), fontsize=11, x=0.01, ha='left', color=_INK)
    for row, camera in enumerate(cameras):
        _film(figure.add_subplot(grid[row]), episode, camera, steps, end_s)
    rewards = figure.add_subplot(grid[len(cameras)])
    draw_rewards(rewards, episode, steps, origin, end_s)
    force = figure.add_subplot(grid[len(cameras) + 1], sharex=rewards)
    draw_force(force, episode, origin, end_s)
    try:
        figure.savefig(output, format='png')
    except OSError as e:
        raise BagError(f'{output}: cannot be written: {e.strerror or e}') from e


def plain(text: str) -> str:
    """Text of unknown origin as matplotlib shows it letter by letter: a pair of $ would be a formula."""
    return printable(text).replace('$', r'\$')


def _title(episode: Episode) -> str:
    r = episode.record
    outcome = 'success' if r.success else 'no success'
    return (plain(f'{r.episode_id}   triplet {r.triplet}, policy {r.policy_version or "?"}') + '\n' +
            plain(f'{r.steps} steps, ended by {r.termination_reason}, {outcome}, peak force {r.peak_force_n:.1f} N'))


def _bare(ax) -> None:
    for side in ('top', 'right'):
        ax.spines[side].set_visible(False)
    for side in ('left', 'bottom'):
        ax.spines[side].set_color(_GREY)
    ax.tick_params(colors=_INK, labelsize=9, length=3)


def _film(ax, episode: Episode, camera: str, steps, end_s: float) -> None:
    """Frames that Steps name, at equal distances, each where its time is on the axes below."""
    width = end_s / _FRAMES
    for i in range(_FRAMES):
        step = steps[min(round((i + 0.5) / _FRAMES * (len(steps) - 1)), len(steps) - 1)]
        if camera not in step.stamps:
            continue
        image = episode.samples(step, (camera,))[camera]['image']
        place = (i * width, (i + 0.98) * width, 0, 1)
        ax.imshow(image, extent=place, aspect='auto', interpolation='bilinear')
    ax.set(xlim=(0, end_s), ylim=(0, 1), yticks=[0.5])
    ax.set_yticklabels([camera.replace('_', '\n', 1).replace('_', ' ')], fontsize=9)
    ax.tick_params(length=0, labelbottom=False, bottom=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def draw_rewards(ax, episode: Episode, steps, origin: int, end_s: float) -> None:
    """A lane a task, the first on top; the lane of the task that acted is shaded. Times in s since `origin`."""
    t = np.array([(s.stamp - origin) / 1e9 for s in steps])
    values = np.stack([s.rewards for s in steps])
    tasks = episode.record.tasks or tuple(f'task {i}' for i in range(values.shape[1]))
    n = len(tasks)
    for i in range(n):
        base, colour = n - 1 - i, _LANES[i % len(_LANES)]
        ax.axhline(base, color='#dddddd', lw=0.8, zorder=1)
        if i < values.shape[1]:
            lane = base + 0.86 * np.clip(values[:, i], 0, 1)
            ax.fill_between(t, base, lane, color=colour, alpha=0.45, lw=0, zorder=2)
            ax.plot(t, lane, color=colour, lw=1.3, zorder=3)
    changes = episode.schedule()
    ends = [t[index] for index, _ in changes[1:]] + [end_s]
    for (index, task), end in zip(changes, ends):
        if task in tasks:
            base = n - 1 - tasks.index(task)
            ax.fill_between([t[index], end], base, base + 1, color='#f2e3b3', lw=0, zorder=0)
    returns = episode.record.returns
    labels = [f'{plain(task)}\nreturn {returns[i]:.1f}' if i < len(returns) else plain(task)
              for i, task in enumerate(tasks)]
    ax.set(xlim=(0, end_s), ylim=(0, n), yticks=[n - 0.55 - i for i in range(n)])
    ax.set_yticklabels(labels, fontsize=8)
    ax.set_title('rewards, 0 to 1 in each lane; shaded: the task that acted',
                 fontsize=9, loc='left', color=_INK)
    _bare(ax)
    ax.tick_params(axis='y', length=0)
    ax.tick_params(axis='x', labelbottom=False)


def draw_force(ax, episode: Episode, origin: int, end_s: float) -> None:
    """The wrist force over the s since `origin`, and its limit."""
    limits = episode.record.metadata.get('limits')
    limit_n = limits.get('force_n') if isinstance(limits, dict) else None
    if not isinstance(limit_n, (int, float)):
        limit_n = Limits().force_n
    top = limit_n
    if episode.has('wrench'):
        series = episode.series('wrench')
        newtons = np.linalg.norm(series.values['force'], axis=-1)
        ax.plot((series.stamps - origin) / 1e9, newtons, color=_FORCE, lw=1.0)
        top = max(top, float(np.nanmax(newtons)))
    ax.axhline(limit_n, color=_LIMIT, lw=1.2, ls='--')
    ax.text(end_s, limit_n, f'limit {limit_n:g} N ', color=_LIMIT, fontsize=9, ha='right', va='bottom')
    ax.set(xlim=(0, end_s), ylim=(0, top * 1.2), xlabel='s since the first tick', ylabel='wrist force, N')
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.label.set_size(9)
    ax.yaxis.label.set_size(9)
    _bare(ax)

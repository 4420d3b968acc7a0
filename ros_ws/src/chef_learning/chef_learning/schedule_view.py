# SPDX-License-Identifier: Apache-2.0
"""`chef schedule RUN`: which task acted when, and what SAC-Q has learned of it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from chef_task.rewards import TASKS

_DEEPEST = 2    # slots whose table is printed: further ones have too many rows


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for wrong input."""
    p = argparse.ArgumentParser(prog='chef schedule', description='Prints the scheduler\'s table of each cell of a '
                                'run and draws the tasks chosen in every episode.')
    p.add_argument('run', type=Path, help='folder of the run')
    p.add_argument('--output', type=Path, default=Path('schedule.png'), help='file of the picture (default: %(default)s)')
    args = p.parse_args(argv)
    files = sorted(args.run.glob('schedule/**/*.json'))
    try:
        if not files:
            raise ValueError(f'{args.run}: has no schedule: no episode was scheduled there')
        cells = {f.stem: (_read(f), _episodes(f.with_suffix('.jsonl'))) for f in files}
        for name, (state, _) in cells.items():
            print('\n'.join(_table(name, state)))
        _draw(cells, args.output)
    except ValueError as e:
        print(f'chef schedule: {e}', file=sys.stderr)
        return 2
    except OSError as e:
        print(f'chef schedule: {e.filename or args.output}: {e.strerror or e}', file=sys.stderr)
        return 2
    print(f'picture written to {args.output}')
    return 0


def _read(path: Path) -> dict:
    try:
        state = json.loads(path.read_text(encoding='utf-8'))
        return {'episodes': int(state['episodes']),
                'table': {(tuple(map(int, c)), int(t)): float(v) for c, t, v in state['table']}}
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise ValueError(f'{path}: not a schedule of ours: {" ".join(str(e).split())}') from None


def _episodes(path: Path) -> list[list[int]]:
    """The tasks of every slot, an episode each; a line that a crash cut short is left out."""
    out = []
    for line in path.read_text(encoding='utf-8').splitlines() if path.exists() else ():
        try:
            out.append([int(t) for t in json.loads(line)['tasks']])
        except (ValueError, KeyError, TypeError):
            continue
    return out


def _name(task: int) -> str:
    return TASKS[task] if task < len(TASKS) else f'task {task}'


def _table(cell: str, state: dict) -> list[str]:
    """Lines: after which tasks, which task next, and the main task's return from then on."""
    lines = [f'{cell}: {state["episodes"]} episodes', f'  {"after":32}  {"next":12}  return']
    rows = sorted(state['table'].items(), key=lambda row: (len(row[0][0]), row[0][0], -row[1]))
    for (chosen, task), value in rows:
        if len(chosen) < _DEEPEST:
            lines.append(f'  {", ".join(map(_name, chosen)) or "-":32}  {_name(task):12}  {value:.3f}')
    return lines


def _draw(cells: dict, output: Path) -> None:
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(len(cells), 1, figsize=(10, 2.2 * len(cells) + 0.8), squeeze=False, layout='constrained')
    for axis, (name, (_, episodes)) in zip(axes[:, 0], cells.items()):
        slots = max(map(len, episodes), default=1)
        grid = np.full((slots, max(len(episodes), 1)), np.nan)
        for i, tasks in enumerate(episodes):
            grid[:len(tasks), i] = tasks
        image = axis.imshow(grid, aspect='auto', cmap='tab10', vmin=0, vmax=9, interpolation='nearest')
        axis.set(title=name, xlabel='episode', ylabel='slot', yticks=range(slots))
        there = sorted({t for tasks in episodes for t in tasks})
        axis.legend(handles=[plt.Rectangle((0, 0), 1, 1, color=image.cmap(image.norm(t)), label=_name(t)) for t in there],
                    loc='center left', bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(output, dpi=110)
    plt.close(figure)


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""`./chef bench replay --peers`: our replay beside LeRobot's loader and torchrl's memory-mapped buffer.

One data set, given to each reader in its own form. The readers are processes of their own (`_replay_readers.py`) on the
same cores; one at a time draws, in turns, so that whatever else the machine does hits all alike. Before that each
is asked for the same transitions, which are compared with the arrays that the data set was made of.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from _contestant import ComparisonError, Process, parse  # noqa: F401

SCRIPT = Path(__file__).resolve().with_name('_replay_readers.py')
# name of a reader: what the table calls it, whether it runs in the peers' environment, its folders
READERS = {
    'ours': ('ours, `compressed`', False, ('replay_compressed',)),
    'ours_raw': ('ours, `raw`', False, ('replay_raw',)),
    'lerobot': ('LeRobot, `delta_timestamps`', True, ('lerobot', 'huggingface/datasets')),
    'lerobot_rows': ('LeRobot, row by row', True, ('lerobot', 'huggingface/datasets')),
    'torchrl': ('torchrl, LazyMemmapStorage', True, ('torchrl',)),
}
HEAD = ('pictures', 'reader', 'transitions/s, median (lowest to highest)', 'ours `compressed` : it', 'ours `raw` : it',
        'open, ms', 'memory, MiB', 'of it since opened, MiB', 'disk, kB a step')


def write_data(folder: Path, pictures: np.ndarray, episodes: int) -> None:
    """`bags`, `lerobot` and `arrays` of made-up episodes in which the cameras see the pictures, one after the other.

    Args:
      pictures: uint8 [episodes * (T + 1), cameras, H, W, 3].
    """
    from chef_task.bag import Episode
    from chef_task.bag.lerobot import export
    from chef_task.bag.lerobot_rows import STATE
    from chef_task.bag.synthetic import write_synthetic_episode
    from chef_task.records import Reason
    from chef_task.spaces import CAMERAS

    bags = []
    (folder / 'arrays').mkdir(parents=True)
    for number, part in enumerate(np.split(pictures, episodes)):
        reason = Reason.FORCE_LIMIT if number == episodes - 1 else Reason.TIME_LIMIT      # one that does not bootstrap
        bags.append(write_synthetic_episode(folder / 'bags', number, len(part) - 1, pictures=part, reason=reason.value))
        rows = list(Episode.open(bags[-1]).features())
        steps, features = [step for step, _ in rows], [seen for _, seen in rows]
        np.savez(folder / 'arrays' / f'{number:06d}.npz',
                 images=np.stack([np.stack([f[f'image_{c}'] for c in CAMERAS]) for f in features]),
                 state=np.stack([np.concatenate([f[k] for k in STATE]) for f in features]),
                 action=np.array([s.action for s in steps[:-1]], np.float32),
                 rewards=np.array([s.rewards for s in steps], np.float32),
                 discount=np.array([s.discount for s in steps], np.float32))
    report = export(bags, folder / 'lerobot', 'pixels')
    if report.skipped:
        raise ComparisonError(f'lerobot: {report.skipped[0]}')


def reference(folder: Path, transitions: Sequence[int], n_step: int, discount: float) -> dict[str, np.ndarray]:
    """The transitions from `arrays`, as `_replay_readers.Reader.read` gives them.

    And `last` [B]: whether the next state is an episode's last, which LeRobot's format has no row for.
    """
    files = [np.load(f) for f in sorted((folder / 'arrays').glob('*.npz'))]
    episodes = [{k: f[k] for k in f.files} for f in files]
    ends = np.cumsum([len(e['action']) for e in episodes])
    rows = []
    for number in transitions:
        owner = int(np.searchsorted(ends, number, side='right'))
        e, t = episodes[owner], number - int(ends[owner] - len(episodes[owner]['action']))
        then = min(t + n_step, len(e['action']))
        total, factor = np.zeros(e['rewards'].shape[1]), 1.0
        for k in range(t + 1, then + 1):
            total, factor = total + factor * e['rewards'][k], factor * discount * e['discount'][k]
        rows.append({'images': e['images'][t], 'state': e['state'][t], 'action': e['action'][t], 'returns': total,
                     'discounts': factor, 'next_images': e['images'][then], 'next_state': e['state'][then],
                     'last': then == len(e['action'])})
    return {k: np.stack([r[k] for r in rows]) for k in rows[0]}


def check(name: str, got: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """ComparisonError at the first transition that differs: images bit for bit, sums to rounding."""
    for key in ('images', 'next_images', 'state', 'next_state', 'action', 'returns', 'discounts'):
        here, there = expected[key], got[key]
        if name.startswith('lerobot') and key.startswith('next_'):
            here, there = here[~expected['last']], there[~expected['last']]
        tolerance = {'rtol': 1e-5, 'atol': 1e-6} if key in ('returns', 'discounts') else {'rtol': 0, 'atol': 0}
        if here.shape != there.shape or not np.allclose(here, there, **tolerance):
            raise ComparisonError(f'{name}: {key} are not those of the data set')


@dataclass
class Figures:
    """What was measured of one reader.

    rates: transitions/s, one a round. opened_s: s to open. memory: MiB, the most of all rounds. grown: the same less
    what the process took before it opened anything. disk: bytes.
    """

    rates: list[float] = field(default_factory=list)
    opened_s: float = 0.0
    memory: float = 0.0
    grown: float = 0.0
    disk: int = 0


def table_rows(pictures: str, figures: Mapping[str, Figures], steps: int) -> list[str]:
    """Rows of the table, ratios of the same round; HEAD says what the columns are."""
    out = []
    for name, f in figures.items():
        ratios = [f'{statistics.median(a / b for a, b in zip(figures[k].rates, f.rates)):.2f}' if k != name else ''
                  for k in ('ours', 'ours_raw')]
        rates = f'{statistics.median(f.rates):.0f} ({min(f.rates):.0f} to {max(f.rates):.0f})'
        cells = (pictures, READERS[name][0], rates, *ratios, f'{1e3 * f.opened_s:.1f}', f'{f.memory:.0f}',
                 f'{f.grown:.0f}', f'{f.disk / steps / 1e3:.1f}')
        out.append(f'| {" | ".join(cells)} |')
    return out


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder, as they lie on the disk: storages are files with holes."""
    return sum(p.stat().st_blocks * 512 for p in folder.rglob('*') if p.is_file())


def compare(folder: Path, start: Callable[[str], Process], rounds: int, seconds: float, transitions: int,
            n_step: int, discount: float, say: Callable[[str], None]) -> dict[str, Figures]:
    """Builds, checks and measures all readers on the data set in a folder.

    Args:
      start: the process of a reader.
      rounds: turns of each reader; seconds: of one turn.
      transitions: in the data set.
    """
    rng = np.random.default_rng(0)
    asked = sorted({0, transitions - 1, *rng.integers(0, transitions, 64).tolist()})
    expected = reference(folder, asked, n_step, discount)
    figures: dict[str, Figures] = {}
    for name, (_, _, places) in READERS.items():
        with start(name) as process:        # what building leaves in memory ends with it
            seconds_built = process.ask(do='build')['seconds']
        say(f'{name}: built in {seconds_built:.1f} s')
        figures[name] = Figures(disk=sum(size_of(folder / place) for place in places))
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(start(name)) for name in READERS}
        idle = {}
        for name, process in processes.items():
            idle[name] = process.ask(do='idle')['memory']
            opened = process.ask(do='open')
            if opened['transitions'] != transitions:
                raise ComparisonError(f'{name}: has {opened["transitions"]} transitions, the data set {transitions}')
            figures[name].opened_s = opened['seconds']
            process.ask(do='read', transitions=asked, path=str(folder / f'{name}.npz'))
            check(name, np.load(folder / f'{name}.npz'), expected)
        say(f'all give the same {len(asked)} transitions')
        for number in range(rounds):
            for name, process in processes.items():
                drawn = process.ask(do='draw', seconds=seconds)
                figures[name].rates.append(drawn['transitions'] / drawn['seconds'])
                figures[name].memory = max(figures[name].memory, drawn['memory'])
            say(f'round {number + 1} of {rounds}: ' + ', '.join(f'{n} {f.rates[-1]:.0f}/s' for n, f in figures.items()))
    for name, f in figures.items():
        f.grown = f.memory - idle[name]
    return figures


def run(folder: Path, python: Path, environment: Mapping[str, str], *, episodes: int, steps: int, batch: int,
        rounds: int, seconds: float, threads: int, n_step: int, discount: float) -> None:
    """Measures on rendered pictures and on those with a camera's noise, and prints the table.

    Args:
      folder: for the data set and what the readers make of it.
      python, environment: the peers' interpreter and its variables.
      episodes, steps: of the data set. The others: see `replay.py --help`.
    """
    from codec import rendered, with_noise
    from chef_task.spaces import IMAGE_SHAPE

    def say(text: str) -> None:
        print(f'replay: {text}', file=sys.stderr, flush=True)

    frames = rendered(episodes * (steps + 1), IMAGE_SHAPE[1], IMAGE_SHAPE[0])
    settings = json.dumps({'n_step': n_step, 'discount': discount, 'batch': batch, 'threads': threads})
    print(f'| {" | ".join(HEAD)} |\n|{"---|" * len(HEAD)}', flush=True)
    for kind, pictures in (('rendered', frames), ('with noise', with_noise(frames))):
        place = folder / kind.replace(' ', '_')
        write_data(place, pictures, episodes)

        def start(name: str) -> Process:
            peer = READERS[name][1]
            # no look-ups in the network, and no caches of the user's
            env = {**(environment if peer else os.environ), 'OMP_NUM_THREADS': str(threads), 'HF_HUB_OFFLINE': '1',
                   'HF_HOME': str(place / 'huggingface'), 'RL_LOGGING_LEVEL': 'WARNING'}
            interpreter = str(python) if peer else sys.executable
            return Process(name, [interpreter, str(SCRIPT), name, str(place), settings], env)

        figures = compare(place, start, rounds, seconds, episodes * steps, n_step, discount, say)
        print('\n'.join(table_rows(kind, figures, episodes * (steps + 1))), flush=True)

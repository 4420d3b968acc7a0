# SPDX-License-Identifier: Apache-2.0
"""`./chef fleet`: a storage that several cells of the graph feed, and its learner; see docs/fleet.md."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from chef_task.storage import Storage, StorageError, cell_place
from chef_task.storage_sync import BAG_MARK, CELLS, POLICIES, POLICY_MARK, Down, StorageSync, Up, about_bag

_USAGE = 2
_TRY_S = 60.0       # for a storage that does not answer
_IDLE_S = 0.05
_END_S = 20.0       # for the last policy to be uploaded


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog='chef fleet', description='Shared storage of a fleet: a path, or a URL as '
                                's3://bucket/name.')
    commands = p.add_subparsers(dest='command', required=True, metavar='COMMAND')

    def command(name: str, text: str, *words: str) -> argparse.ArgumentParser:
        c = commands.add_parser(name, help=text, description=text)
        for word in words:
            c.add_argument(word.lower(), metavar=word, type=str if word == 'STORAGE' else Path)
        return c
    command('create', 'make a storage where there is none', 'STORAGE')
    command('status', 'what is in it: cells, episodes, policy versions', 'STORAGE')
    up = command('upload', 'upload the sealed bags of a run', 'RUN', 'STORAGE')
    up.add_argument('--cell', default='', help='whose they are (default: what the bags say)')
    command('fetch', 'fetch all episodes and the newest policy into a folder', 'STORAGE', 'DIR')
    learn = command('learn', 'learn from all cells until stopped, and publish policies to them', 'STORAGE', 'DIR')
    learn.add_argument('--config', type=Path, help='learner settings (default: what chef_learning.config says)')
    learn.add_argument('--seed', type=int, default=0, help='of everything random (default: %(default)s)')
    learn.add_argument('--publish-period', type=float, default=30.0, metavar='S', help='s between two policy versions '
                       '(default: %(default)s)')
    learn.add_argument('--updates', type=int, default=0, help='stop after so many in all (default: when asked to)')
    return p


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed, 2 wrong input, 130 or 143 interrupted."""
    args = _parser().parse_args(argv)
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: asked.append(n))
    try:
        code = {'create': _create, 'status': _status, 'upload': _upload, 'fetch': _fetch, 'learn': _learn}[args.command](
            args, Storage(args.storage), lambda: bool(asked))
    except StorageError as e:
        return _fail(e, 1 if e.passing else _USAGE)
    except OSError as e:
        return _fail(f'{e.filename or ""}: {e.strerror or e}', 1)
    return 128 + asked[0] if asked and not code else code


def _fail(error: object, code: int) -> int:
    print(f'chef fleet: {error}', file=sys.stderr)
    return code


def _create(args: argparse.Namespace, storage: Storage, stop: Callable[[], bool]) -> int:
    storage.create()
    print(storage.url)
    return 0


def _status(args: argparse.Namespace, storage: Storage, stop: Callable[[], bool]) -> int:
    storage.check()
    total = 0
    for cell in storage.folders(CELLS):
        names = storage.names(cell_place(cell))
        total += len(names)
        about = storage.manifest(cell_place(cell), names[-1]).about if names else {}
        newest = f'; newest {names[-1]}, by {about.get("policy_version", "?")}' if names else ''
        print(f'{cell}: {len(names)} episodes{newest}')
    policies = sorted(storage.names(POLICIES), key=lambda n: (len(n), n))
    print(f'{total} episodes in all; {len(policies)} policy versions' + (f', newest {policies[-1]}' if policies else ''))
    return 0


def _upload(args: argparse.Namespace, storage: Storage, stop: Callable[[], bool]) -> int:
    episodes = args.run / 'episodes'
    if not episodes.is_dir():
        return _fail(f'{args.run}: has no episodes', _USAGE)
    cell = args.cell
    if not cell:
        cells = {about_bag(p).get('cell', '') for p in episodes.iterdir() if (p / BAG_MARK).is_file()} - {''}
        if len(cells) != 1:
            return _fail(f'{episodes}: the bags are of {", ".join(sorted(cells)) or "no cell"}: give --cell', _USAGE)
        cell = cells.pop()
    sync = StorageSync(storage, [Up(episodes, cell_place(cell), BAG_MARK, about_bag)], [])
    return _work(sync, stop, lambda: f'{sync.status.uploaded} episodes uploaded to {storage.url}/{cell_place(cell)}')


def _fetch(args: argparse.Namespace, storage: Storage, stop: Callable[[], bool]) -> int:
    sync = StorageSync(storage, [], _downs(args.dir))
    return _work(sync, stop, lambda: f'{sync.status.fetched} folders fetched into {args.dir}')


def _downs(folder: Path) -> list[Down]:
    return [Down(f'{CELLS}/*/episodes', folder / CELLS / '*' / 'episodes'), Down(POLICIES, folder / 'policies', newest=True)]


def _work(sync: StorageSync, stop: Callable[[], bool], summary: Callable[[], str]) -> int:
    """Rounds until all is done; gives up on a storage that does not answer for `_TRY_S`."""
    well = time.monotonic()
    while True:
        wait_s = sync.round()
        _say(sync)
        if not sync.status.error:
            well = time.monotonic()
            if wait_s:
                break
        elif time.monotonic() - well > _TRY_S:
            return _fail(sync.status.error, 1)
        if stop():
            return 0
        end = time.monotonic() + wait_s
        while time.monotonic() < end and not stop():
            time.sleep(_IDLE_S)
    print(summary())
    return 1 if sync.status.refused else 0


def _say(sync: StorageSync) -> None:
    for _, line in sync.take_events():
        print(line, flush=True)


def _learn(args: argparse.Namespace, storage: Storage, stop: Callable[[], bool]) -> int:
    from chef_learning.config import LearnerConfig
    try:
        if args.seed < 0 or args.updates < 0 or not args.publish_period > 0:
            raise ValueError('--seed and --updates must not be negative, --publish-period must be positive')
        config = LearnerConfig.load(args.config) if args.config else LearnerConfig()
    except ValueError as e:
        return _fail(e, _USAGE)
    # its numbers go on where those of the storage are, wherever this learner ran before
    before = StorageSync(storage, [], [Down(POLICIES, args.dir / 'policies', newest=True)])
    while not stop():
        try:
            storage.create()
        except StorageError as e:
            if not e.passing:
                raise
        wait_s = before.round()
        _say(before)
        if not before.status.error:
            break
        time.sleep(min(wait_s, 2.0))
    if stop():
        return 0
    # late: torch takes seconds, a mistake in the arguments should not
    import torch

    from chef_learning.checkpoint import CheckpointError
    from chef_learning.replay import ReplayError
    from chef_learning.run_learner import RunLearner, RunLocked
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
    sync = StorageSync(storage, [Up(args.dir / 'policies', POLICIES, POLICY_MARK)], _downs(args.dir)[:1])
    try:
        with RunLearner(config, args.dir, args.seed, publish_period_s=args.publish_period, bags=args.dir / CELLS, stop=stop,
                        device='auto') as learner:
            sync.start()
            try:
                while not stop() and not 0 < args.updates <= learner.updates:
                    if not learner.work():
                        time.sleep(_IDLE_S)
                    for line in learner.take_events():
                        print(line, flush=True)
                    _say(sync)
                learner.publish()
                learner.save()
                for line in learner.take_events():
                    print(line, flush=True)
            finally:
                sync.end()
                end = time.monotonic() + _END_S
                while not sync.ended and time.monotonic() < end:
                    time.sleep(_IDLE_S)
                _say(sync)
            print(f'{learner.updates} updates; newest policy {learner.version}, in {storage.url}')
    except (RunLocked, ReplayError, CheckpointError) as e:
        return _fail(e, _USAGE)
    except FloatingPointError as e:
        return _fail(f'learning diverged: {e}', 1)
    return 0


if __name__ == '__main__':
    sys.exit(main())

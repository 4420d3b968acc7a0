# SPDX-License-Identifier: Apache-2.0
"""`chef train DIR`: offline training from bags, with the same learner as beside a cell."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

from chef_learning import processes
from chef_learning.config import LearnerConfig

_USAGE = 2


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog='chef train', description='Train policies offline, from the bags below a folder; needs no ROS. '
        'An interrupted training goes on where it stopped when it is started again with the same output.')
    p.add_argument('dir', type=Path, help='folder with sealed bags, for instance a run of collect')
    p.add_argument('--config', type=Path, help='learner settings (default: what chef_learning.config says)')
    p.add_argument('--updates', type=int, default=1000, help='updates in all (default: %(default)s)')
    p.add_argument('--labels', metavar='VERSION', help='learn from these labels instead of the recorded rewards, '
                   'see ./chef bags relabel (default: what the settings say)')
    p.add_argument('--output', type=Path, help='folder for replay, policies, metrics and checkpoints '
                   '(default: DIR/offline, with labels DIR/offline-VERSION)')
    p.add_argument('--processes', type=int, default=1, metavar='N', help='train with N processes on this machine, '
                   'each with its share of every batch and, if there are any, its GPU (default: %(default)s); over '
                   'several machines: torchrun -m chef_learning.train')
    p.add_argument('--device', default='auto', choices=('auto', 'cpu', 'cuda'), help='where networks are (default: '
                   '%(default)s, a GPU if there is one)')
    p.add_argument('--seed', type=int, default=0, help='of everything random (default: %(default)s)')
    return p


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed (full disk, diverged), 2 wrong input, 130 interrupted."""
    words = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(words)
    try:
        together = int(os.environ.get('WORLD_SIZE', 1))      # that this process was started with
        if args.updates < 1:
            raise ValueError(f'--updates must be at least 1, not {args.updates}')
        if args.seed < 0:
            raise ValueError(f'--seed must not be negative, not {args.seed}')
        if args.processes < 1:
            raise ValueError(f'--processes must be at least 1, not {args.processes}')
        if not args.dir.is_dir():
            raise ValueError(f'{args.dir}: no such folder')
        config = LearnerConfig.load(args.config) if args.config else LearnerConfig()
        if args.labels is not None:
            config = dataclasses.replace(config, replay=dataclasses.replace(config.replay, labels=args.labels))
        count = max(together, args.processes)
        if config.batch_size % count:
            raise ValueError(f'batch_size: {config.batch_size} transitions cannot be shared evenly by {count} processes')
    except ValueError as e:
        return _fail(e, _USAGE)
    if args.processes > 1 and together == 1:
        return processes.run('chef_learning.train', words, args.processes)
    name = f'offline-{Path(config.replay.labels).name}' if config.replay.labels else 'offline'
    return _train(config, args.dir, args.output or args.dir / name, args.updates, args.seed,
                  args.device)


def _fail(error: object, code: int) -> int:
    print(f'chef train: {error}', file=sys.stderr)
    return code


def _train(config: LearnerConfig, bags: Path, output: Path, updates: int, seed: int, device: str) -> int:
    # late: torch takes seconds, a mistake in the arguments should not
    import torch

    from chef_learning.checkpoint import CheckpointError
    from chef_learning.parallel import ParallelError, process_rank
    from chef_learning.replay import ReplayError
    from chef_learning.run_learner import RunLearner, RunLocked
    torch.set_num_threads(1)
    if device == 'cuda' and not torch.cuda.is_available():
        return _fail('--device cuda: there is no GPU that this torch can use', _USAGE)
    first, asked = process_rank() == 0, []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, frame: asked.append(n))
    try:
        with RunLearner(config, output, seed, bags=bags, sync_period_s=float('inf'),
                        publish_period_s=60.0, stop=lambda: bool(asked),
                        device='cpu' if device == 'cpu' else 'auto') as learner:
            learner.sync()
            _report(learner)
            if not learner.stopped and not learner.ready:
                return _fail(f'{bags}: {len(learner.replay)} transitions to learn from, '
                             f'{config.replay.min_transitions} are needed', _USAGE) if first else _USAGE
            start, begun = time.monotonic(), learner.updates
            while not learner.stopped and learner.updates < updates:
                learner.work()
                _report(learner)
            learner.publish()
            learner.save()
            _report(learner)
            rate = (learner.updates - begun) / max(time.monotonic() - start, 1e-9)
            if first:
                print(f'{learner.updates} updates, {rate:.2f} a second; newest policy {learner.version} '
                      f'in {output / "policies"}')
    except (RunLocked, ReplayError, CheckpointError) as e:
        return _fail(e, _USAGE)
    except OSError as e:
        return _fail(f'{e.filename or output}: {e.strerror or e}', 1)
    except ParallelError as e:
        return _fail(e, 1)
    except RuntimeError as e:
        compiler = type(e).__module__.startswith(('torch._dynamo', 'torch._inductor'))
        if not compiler and not isinstance(e, torch.OutOfMemoryError):
            raise
        text = ' '.join(str(e).split())[:300]
        return _fail(f'the networks cannot be compiled (see the setting compile): {text}' if compiler else text, 1)
    except FloatingPointError as e:     # in all processes alike
        return _fail(f'learning diverged: {e}', 1) if first else 1
    return 128 + (asked or [signal.SIGTERM])[0] if learner.stopped else 0


def _report(learner) -> None:
    for event in learner.take_events():
        if learner.first:
            print(event, flush=True)


if __name__ == '__main__':
    sys.exit(main())

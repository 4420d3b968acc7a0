# SPDX-License-Identifier: Apache-2.0
"""The learner beside a fleet, in a process of its own, and what keeps the two in step."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import time
from pathlib import Path

from chef_learning.config import LearnerConfig

_IDLE_S = 0.05
_END_S = 120.0      # s, for an update, a policy and a checkpoint


class Beside:
    """Starts the learner's process and hears from it.

    Args:
      folder: of the run.
      updates_per_step: updates for each control step of the fleet; 0: both go as fast as they can. Neither may be
        ahead of the other by more than `slack` control steps.
      publish_period_s: s between two policy versions.
    """

    def __init__(self, config: LearnerConfig, folder: Path, seed: int, updates_per_step: float, slack: int,
                 publish_period_s: float = 10.0):
        context = multiprocessing.get_context('spawn')
        # the fleet may be ahead by what the learner needs to begin at all
        self._slack, self._ratio = max(slack, config.replay.min_transitions), updates_per_step
        self._steps, self._updates = context.Value('Q', 0), context.Value('Q', 0)
        self._stop, self._lines = context.Event(), context.Queue()
        # not a daemon: those may not have processes of their own, which draw its batches
        self._process = context.Process(target=_main, args=(
            config, folder, seed, publish_period_s, updates_per_step, slack, self._steps, self._updates, self._stop,
            self._lines))
        self._failed: tuple[str, bool] | None = None

    def start(self) -> None:
        self._process.start()

    def acted(self, steps: int) -> None:
        """The fleet has made so many further control steps."""
        with self._steps.get_lock():
            self._steps.value += steps

    def may_act(self, steps: int) -> bool:
        """Whether the fleet, when it has made `steps` in all, may start another episode."""
        return not self._ratio or steps <= self._updates.value / self._ratio + self._slack

    @property
    def updates(self) -> int:
        """Since the start."""
        return self._updates.value

    def events(self) -> list[str]:
        """Lines since the last call."""
        out = []
        while True:
            try:
                kind, text = self._lines.get_nowait()
            except queue.Empty:
                return out
            if kind == 'event':
                out.append(f'learner: {text}')
            else:
                self._failed = f'learner: {text}', kind == 'usage'

    def error(self) -> tuple[str, bool] | None:
        """Why it cannot go on, and whether what it was asked for is wrong; None while it does."""
        if self._failed is None and self._process.pid is not None and not self._process.is_alive():
            time.sleep(0.2)         # for what it said last
            self.events()
            self._failed = self._failed or (f'learner: process {self._process.pid} died '
                                            f'(exit status {self._process.exitcode})', False)
        return self._failed

    def end(self) -> list[str]:
        """Lets it publish and save, and waits for that; lines that it still had to say."""
        self._stop.set()
        if self._process.pid is None:
            return []
        deadline, lines = time.monotonic() + _END_S, []
        while self._process.is_alive() and time.monotonic() < deadline:
            lines += self.events()          # a full queue would keep it from ending
            self._process.join(0.1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return lines + self.events()


def _main(config, folder, seed, publish_s, ratio, slack, steps, updates, stop, lines) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def asked() -> bool:
        return stop.is_set() or os.getppid() != parent      # a fleet that was killed cannot ask
    import torch

    from chef_learning.checkpoint import CheckpointError
    from chef_learning.replay import ReplayError
    from chef_learning.run_learner import RunLearner, RunLocked
    torch.set_num_threads(1)
    try:
        with RunLearner(config, folder, seed, publish_period_s=publish_s, stop=asked, device='auto') as learner:
            begun = learner.updates
            while not asked():
                done = learner.updates - begun
                if ratio and done > ratio * (steps.value + slack):
                    learner.sync()
                    time.sleep(_IDLE_S)
                elif not learner.work():
                    time.sleep(_IDLE_S)
                updates.value = learner.updates - begun
                for event in learner.take_events():
                    lines.put(('event', event))
            learner.publish()
            learner.save()
            for event in learner.take_events():
                lines.put(('event', event))
    except (RunLocked, ReplayError, CheckpointError) as e:
        lines.put(('usage', str(e)))
    except OSError as e:
        lines.put(('error', f'{e.filename or folder}: {e.strerror or e}'))
    except Exception as e:      # divergence, or whatever torch raises
        lines.put(('error', f'{type(e).__name__}: {" ".join(str(e).split())}'))

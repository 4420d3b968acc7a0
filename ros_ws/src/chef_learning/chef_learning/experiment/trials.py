# SPDX-License-Identifier: Apache-2.0
"""Trials of several candidates from the same scenes, in random order, and what they say of the candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from chef_task.bag.report import wilson
from chef_task.records import EpisodeRecord, Reason
from chef_task.rewards import TASKS

LEVEL = 0.05


def plan(names: Sequence[str], episodes: int, seed: int) -> list[tuple[str, int]]:
    """Candidate and scene of every trial, in the order in which they are run: all with all scenes, mixed at random.

    So what drifts meanwhile, a camera or a gripper, is no candidate's luck.
    """
    pairs = [(name, scene) for scene in range(episodes) for name in sorted(names)]
    order = np.random.default_rng([seed, len(pairs)]).permutation(len(pairs))
    return [pairs[k] for k in order]


@dataclass(frozen=True)
class Score:
    """What a candidate's trials gave. returns: mean of every task. force: N, mean of the episodes' peaks."""

    name: str
    trials: int
    successes: int
    returns: tuple[float, ...]
    stops: int
    force: float

    @property
    def rate(self) -> float:
        return self.successes / self.trials if self.trials else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % (Wilson)."""
        return wilson(self.successes, self.trials)

    def of(self, task: str) -> float:
        """Mean return of a task."""
        return self.returns[TASKS.index(task)]


def score(name: str, records: Sequence[EpisodeRecord]) -> Score:
    """Of the trials of one candidate, at least one."""
    return Score(name, len(records), sum(r.success for r in records),
                 tuple(np.mean([r.returns for r in records], axis=0).tolist()),
                 sum(Reason.of(r.termination_reason) is Reason.FORCE_LIMIT for r in records),
                 float(np.mean([r.peak_force_n for r in records])))


def rank(scores: Sequence[Score], task: str) -> list[Score]:
    """The best first: by successes, and where those are equal by the return of the task that acted."""
    return sorted(scores, key=lambda s: (-s.rate, -s.of(task), s.name))


def mcnemar(better: Sequence[bool], worse: Sequence[bool]) -> float:
    """Probability that chance alone makes two candidates differ as much in the same scenes (McNemar 1947, exact).

    Only scenes count in which one succeeded and the other did not.
    """
    first = sum(b and not w for b, w in zip(better, worse))
    second = sum(w and not b for b, w in zip(better, worse))
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Probabilities of several comparisons, adjusted for their number (Holm 1979)."""
    out, least, left = {}, 0.0, len(values)
    for name, value in sorted(values.items(), key=lambda item: item[1]):
        least = max(least, min(1.0, left * value))
        out[name], left = least, left - 1
    return out


def compare(ranked: Sequence[Score], successes: Mapping[str, Mapping[int, bool]]) -> dict[str, float]:
    """The best against each other candidate: name to adjusted probability.

    Args:
      successes: name to scene to success.
    """
    best = successes[ranked[0].name]
    values = {}
    for other in ranked[1:]:
        scenes = sorted(best.keys() & successes[other.name].keys())
        values[other.name] = mcnemar([best[s] for s in scenes], [successes[other.name][s] for s in scenes])
    return holm(values)


def verdict(ranked: Sequence[Score], adjusted: Mapping[str, float]) -> str:
    """One sentence on what was shown, and what was not."""
    best = ranked[0]
    low, high = best.interval
    text = f'{best.name} succeeded in {best.successes} of {best.trials} trials ({100 * low:.0f} to {100 * high:.0f} %)'
    if len(ranked) == 1:
        return f'{text}; there was no other candidate.'
    beaten = [n for n, p in adjusted.items() if p < LEVEL]
    equal = [n for n in adjusted if n not in beaten]
    if not equal:
        return f'{text}, and was better than every other candidate (p < {LEVEL:g}, McNemar, Holm).'
    shown = f'better than {", ".join(beaten)} (p < {LEVEL:g}, McNemar, Holm), but ' if beaten else ''
    return f'{text}; it was {shown}not shown to be better than {", ".join(equal)}.'

# SPDX-License-Identifier: Apache-2.0
"""Trials of several candidates from the same scenes, in random order, and what they say of the candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap, wilcoxon

from chef_task.bag.report import wilson
from chef_task.records import EpisodeRecord, Reason
from chef_task.rewards import MAIN_TASK, TASKS

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
    """What a candidate's trials gave.

    returns: mean of every task. spans: 95 % of each of them, low and high. force: N, mean of the episodes' peaks.
    """

    name: str
    trials: int
    successes: int
    returns: tuple[float, ...]
    stops: int
    force: float
    spans: Sequence[tuple[float, float]] = ()

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
    returns = np.array([r.returns for r in records], float)
    return Score(name, len(records), sum(r.success for r in records), tuple(returns.mean(axis=0).tolist()),
                 sum(Reason.of(r.termination_reason) is Reason.FORCE_LIMIT for r in records),
                 float(np.mean([r.peak_force_n for r in records])), _Spans(returns.T))


class _Spans(Sequence):
    """The span of each row, worked out once it is asked for: most never are, and each takes a thousand resamples."""

    def __init__(self, values: np.ndarray):
        self._values, self._known = values, {}

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, k: int) -> tuple[float, float]:
        if k not in self._known:
            self._known[k] = span(self._values[k])
        return self._known[k]


def span(values: np.ndarray) -> tuple[float, float]:
    """Where a mean lies with 95 %, of values [n]: bootstrap with correction for bias and skew (Efron 1987)."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    found = bootstrap((values,), np.mean, n_resamples=1000, rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)


def rank(scores: Sequence[Score], task: str) -> list[Score]:
    """The best first: by successes where the main task acted, else by that task's return, then by the other of both."""
    def key(s: Score):
        both = (-s.rate, -s.of(task))
        return (*(both if task == MAIN_TASK else both[::-1]), s.name)
    return sorted(scores, key=key)


def mcnemar(better: Sequence[bool], worse: Sequence[bool]) -> float:
    """Probability that chance alone makes two candidates differ as much in the same scenes (McNemar 1947, exact).

    Only scenes count in which one succeeded and the other did not.
    """
    first = sum(b and not w for b, w in zip(better, worse))
    second = sum(w and not b for b, w in zip(better, worse))
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def signed_rank(better: Sequence[float], worse: Sequence[float]) -> float:
    """Probability that chance alone makes two candidates' returns in the same scenes differ as much (Wilcoxon 1945)."""
    differences = np.subtract(better, worse)
    return float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Probabilities of several comparisons, adjusted for their number (Holm 1979)."""
    out, least, left = {}, 0.0, len(values)
    for name, value in sorted(values.items(), key=lambda item: item[1]):
        least = max(least, min(1.0, left * value))
        out[name], left = least, left - 1
    return out


def compare(first: str, outcomes: Mapping[str, Mapping[int, bool | float]]) -> dict[str, float]:
    """A candidate against each other one: name to adjusted probability.

    Args:
      outcomes: name to scene to success (McNemar's test) or return (Wilcoxon's).
    """
    ours, values = outcomes[first], {}
    for other in sorted(outcomes.keys() - {first}):
        scenes = sorted(ours.keys() & outcomes[other].keys())
        pair = [ours[s] for s in scenes], [outcomes[other][s] for s in scenes]
        values[other] = mcnemar(*pair) if all(isinstance(v, bool) for v in (*pair[0], *pair[1])) else signed_rank(*pair)
    return holm(values)


def verdict(ranked: Sequence[Score], adjusted: Mapping[str, float], task: str = MAIN_TASK) -> str:
    """One sentence on what was shown, and what was not. adjusted: of the best against the others, see `compare`."""
    best = ranked[0]
    if task == MAIN_TASK:
        low, high = best.interval
        test, text = 'McNemar', (f'{best.name} succeeded in {best.successes} of {best.trials} trials '
                                 f'({100 * low:.0f} to {100 * high:.0f} %)')
    else:
        low, high = best.spans[TASKS.index(task)]
        test, text = 'Wilcoxon', (f'{best.name} has a mean return of {best.of(task):.1f} for {task} in {best.trials} trials '
                                  f'({low:.1f} to {high:.1f})')
    if len(ranked) == 1:
        return f'{text}; there was no other candidate.'
    beaten = [n for n, p in adjusted.items() if p < LEVEL]
    equal = [n for n in adjusted if n not in beaten]
    if not equal:
        return f'{text}, and was better than every other candidate (p < {LEVEL:g}, {test}, Holm).'
    shown = f'better than {", ".join(beaten)} (p < {LEVEL:g}, {test}, Holm), but ' if beaten else ''
    return f'{text}; it was {shown}not shown to be better than {", ".join(equal)}.'


def against(score: Score, other: Score, probability: float, task: str) -> str:
    """One plain sentence on whether one candidate was ahead of another, in the same trials."""
    test = 'McNemar' if task == MAIN_TASK else 'Wilcoxon'
    if probability >= LEVEL:
        return f'{score.name} was not shown to differ from {other.name} (p = {probability:.2g}, {test}).'
    ahead = rank([score, other], task)[0] is score
    return f'{score.name} was {"ahead of" if ahead else "behind"} {other.name} (p = {probability:.2g}, {test}).'

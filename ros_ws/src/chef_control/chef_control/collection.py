# SPDX-License-Identifier: Apache-2.0
"""What a collection run reports: one line per episode, a summary at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from chef_task.rewards import TASKS


@dataclass
class Collection:
    """The episodes of one run. Periods and latencies in ms, wall clock."""

    output: str
    lines: list[dict] = field(default_factory=list)
    periods_ms: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    def add(self, *, reason: str, success: bool, steps: int, policy_version: str, peak_force_n: float,
            returns, bag: str, periods_ms, latencies_ms) -> str:
        """Adds an episode and returns its line."""
        self.lines.append(dict(reason=reason, success=success, steps=steps, version=policy_version,
                               peak=peak_force_n, returns=list(returns), bag=bag))
        self.periods_ms += list(periods_ms)
        self.latencies_ms += list(latencies_ms)
        number = len(self.lines)
        worth = '  '.join(f'{t} {r:.1f}' for t, r in zip(TASKS, returns))
        return (f'episode {number}: {reason}, {steps} steps, policy {policy_version}, '
                f'peak force {peak_force_n:.1f} N; returns: {worth}')

    @staticmethod
    def _percentiles(values) -> str:
        p50, p99, top = np.percentile(values, [50, 99, 100])
        return f'p50 {p50:.1f}, p99 {p99:.1f}, max {top:.1f} ms'

    def summary(self) -> str:
        """Several lines: reasons, policy versions, rate, where the bags are."""
        reasons: dict[str, int] = {}
        for line in self.lines:
            short = line['reason'].split(':')[0]
            reasons[short] = reasons.get(short, 0) + 1
        versions = [line['version'] for line in self.lines]
        steps = sum(line['steps'] for line in self.lines)
        out = [
            f'{len(self.lines)} episodes, {steps} steps, '
            f'{sum(line["success"] for line in self.lines)} successes',
            'ended by: ' + (', '.join(f'{r} {n}' for r, n in sorted(reasons.items())) or '-'),
            f'policy: first {versions[0]}, last {versions[-1]}' if versions else 'policy: -',
        ]
        if self.periods_ms:
            rate = 1e3 / np.mean(self.periods_ms)
            out.append(f'rate: {rate:.2f} Hz; period {self._percentiles(self.periods_ms)}')
        if self.latencies_ms:
            out.append(f'tick to command: {self._percentiles(self.latencies_ms)}')
        out.append(f'bags: {self.output}/episodes')
        return '\n'.join(out)

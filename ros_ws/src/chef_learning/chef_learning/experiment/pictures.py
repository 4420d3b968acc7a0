# SPDX-License-Identifier: Apache-2.0
"""Filmstrips of a few of an experiment's trials: one that went well, one that did not, one that was stopped by the force."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from chef_task.bag import report_films
from chef_task.bag.either import open_either
from chef_task.cell import CellConfig
from chef_task.episode_file import EpisodeFile
from chef_task.errors import OneLineError
from chef_task.records import EpisodeRecord, Reason

# By name: where the robot's side is not installed there are no pictures of episodes that were kept without.
REPLAYED = 'chef_control.replayed'


def choose(found: Mapping[int, EpisodeRecord], value: Callable[[EpisodeRecord], float]) -> list[tuple[str, int]]:
    """What is shown and which scene: the best trial, the worst that ran its time, the first that the force ended."""
    stopped = [k for k, r in sorted(found.items()) if Reason.of(r.termination_reason) is Reason.FORCE_LIMIT]
    whole = [k for k in sorted(found) if k not in stopped]
    chosen = []
    if found:
        best = max(sorted(found), key=lambda k: (found[k].success, value(found[k])))
        chosen.append(('success' if found[best].success else 'the best', best))
    if len(whole) > 1:
        worst = min(whole, key=lambda k: (found[k].success, value(found[k])))
        if worst != chosen[0][1]:
            chosen.append(('failure' if not found[worst].success else 'the worst', worst))
    chosen += [('ended by the force limit', k) for k in stopped[:1] if k not in [c[1] for c in chosen]]
    return chosen


def film(path: Path, cell: Path | None) -> bytes | None:
    """A JPEG of an episode, left to right; None where there is nothing to show it with.

    Args:
      cell: file of the cell that simulates once more what was kept without pictures.
    """
    try:
        shown = report_films.film(open_either(path))
        if shown is None and cell is not None and path.is_file():
            replayed = importlib.import_module(REPLAYED)
            shown = report_films.strip(replayed.frames(CellConfig.load(cell), EpisodeFile(path), report_films.FRAMES, 160, 120))
        return shown
    except (OneLineError, ValueError, ImportError):     # only a picture
        return None

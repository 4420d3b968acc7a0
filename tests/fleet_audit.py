# SPDX-License-Identifier: Apache-2.0
"""Compares what cells of a fleet recorded with what has arrived: every episode once, whole, with its policy version."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chef_task.bag.audit import audit
from chef_task.bag.files import find_episodes, quick_summary
from chef_task.manifest import Manifest
from chef_task.storage import Storage, cell_place


@dataclass
class FleetReport:
    """episodes: recorded by each cell. versions: policy version to episodes that it acted in. faults: one line each."""

    episodes: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def audit_fleet(storage_url: str, runs: Mapping[str, Path], learned: Path, wait_s: float = 60.0) -> FleetReport:
    """Waits until the learner has fetched what the cells recorded, and looks at it all.

    Args:
      runs: cell to the folder of its run.
      learned: the learner's folder.
    """
    report, storage = FleetReport(), Storage(storage_url)
    bags = {cell: find_episodes(run / 'episodes') for cell, run in runs.items()}
    ids = [bag.name for found in bags.values() for bag in found]
    if len(set(ids)) < len(ids):
        report.faults.append('two episodes have the same id')
    end = time.monotonic() + wait_s
    while len(_arrived(learned)) < len(ids) and time.monotonic() < end:
        time.sleep(0.2)
    arrived = _arrived(learned)
    if sorted(p.name for p in arrived) != sorted(ids):
        report.faults.append(f'{len(ids)} episodes were recorded, {len(arrived)} have arrived')
    if strange := sorted(set(storage.folders('cells')) - set(runs)):
        report.faults.append(f'the storage has cells {strange} that are not of this fleet')
    published = set(storage.names('policies'))
    for cell, found in bags.items():
        report.episodes[cell] = len(found)
        place = cell_place(cell)
        if storage.names(place) != sorted(b.name for b in found):
            report.faults.append(f'{cell}: {len(found)} episodes were recorded, {len(storage.names(place))} are in the '
                                 'storage')
        for bag in found:
            report.faults += _faults_of(bag, storage, place, learned / place / bag.name, published)
            version = quick_summary(bag).policy_version
            report.versions[version] = report.versions.get(version, 0) + 1
    return report


def _arrived(learned: Path) -> list[Path]:
    return find_episodes(learned / 'cells') if (learned / 'cells').is_dir() else []


def _faults_of(bag: Path, storage: Storage, place: str, arrived: Path, published: set[str]) -> list[str]:
    own, manifest = Manifest.of(bag).files, storage.manifest(place, bag.name)
    version = quick_summary(bag).policy_version
    faults = [f'{bag.name}: {fault}' for fault in audit(bag).faults]
    if manifest is None or manifest.files != own:
        faults.append(f'{bag.name}: the manifest in the storage is of something else')
    elif manifest.about.get('policy_version') != version:
        faults.append(f'{bag.name}: acted by {version}, the manifest says {manifest.about.get("policy_version")}')
    if not arrived.is_dir() or Manifest.of(arrived).files != own:
        faults.append(f'{bag.name}: what has arrived is not what was recorded')
    if version != 'v000000' and version not in published:
        faults.append(f'{bag.name}: acted by {version}, which is not in the storage')
    return faults

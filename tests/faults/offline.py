# SPDX-License-Identifier: Apache-2.0
"""Faults and checks that concern folders: recovery, a second recorder, damaged policy versions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import witness
from cell import NAMESPACE, Cell
from harness import ROOT

from chef_bringup.domain import middleware
from chef_bringup.process import find_executable
from chef_learning.policy_files import versions
from chef_task.bag.errors import BagError
from chef_task.bag.reader import Episode
from chef_task.spaces import CONTROL_PERIOD_NS

LOST_S = 0.25       # of an episode, at most


def _digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob('*')) if p.is_file()}


def recovered(folder: Path, cut_ns: int) -> tuple[list[str], float | None]:
    """Recovers what a crash at `cut_ns` left in a folder of episodes.

    Returns:
      What is wrong with the result, and how much of the episode before the crash it lacks, s.
    """
    partial = sorted(folder.glob('.*.partial'))
    if not partial:
        return ['no partial bag is there to recover'], None
    left, episode = witness.read_record(partial[-1]), partial[-1].name[1:-len('.partial')]
    before = _digests(folder)
    try:
        done = subprocess.run([sys.executable, str(ROOT / 'chef'), 'bags', 'recover', str(folder)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=60.0,
                              env={**os.environ, 'CHEF_INSIDE': str(ROOT)})
    except subprocess.TimeoutExpired:
        return ['recover hangs'], None
    text = done.stdout.strip()
    after = _digests(folder)
    problems = [f'recover changed {name}' for name, value in before.items() if after.get(name) != value]
    if 'Traceback' in text or not text:
        problems.append(f'recover says {text!r}')
    fresh = sorted({str(Path(name).parent) for name in set(after) - set(before)
                    if name.endswith('metadata.yaml') and name.startswith(episode)})
    if not left.steps:      # cut before the first: refusing is right
        return problems, None
    if done.returncode or not fresh:
        return [*problems, f'{left.steps} readable steps are not recovered: {text}'], None
    found, lost_s = _recovered_well(folder / fresh[-1], left, cut_ns)
    return problems + found, lost_s


def _recovered_well(bag: Path, left: witness.Record, cut_ns: int) -> tuple[list[str], float | None]:
    try:
        episode = Episode.open(bag)
        steps, reason = episode.steps(), episode.record.termination_reason
    except BagError as e:
        return [f'the recovered bag is none: {e}'], None
    problems = []
    # a Step without its samples is no use
    if not left.steps - LOST_S * 1e9 / CONTROL_PERIOD_NS <= len(steps) <= left.steps:
        problems.append(f'{len(steps)} of {left.steps} readable steps were recovered')
    if reason.startswith('time_limit') and not left.ended:
        problems.append(f'the recovered bag claims {reason}')
    lost_s = max(0, cut_ns - witness.read_record(bag).logged) * 1e-9
    if lost_s > LOST_S:
        problems.append(f'the last {lost_s:.2f} s before the cut are lost')
    return problems, lost_s


def recovers(cell: Cell) -> list[str]:
    """After the recorder's death: of a copy, so that the run stays as it was left."""
    copy = cell.run.parent / f'{cell.run.name}-dead'
    shutil.copytree(cell.run / 'episodes', copy)
    problems, _ = recovered(copy, cell.fault_ns)
    shutil.rmtree(copy)
    return problems


def second_recorder(cell: Cell, deadline_s: float = 20.0) -> list[str]:
    """Starts another recorder on the run's folder: it must refuse, in a line of its own."""
    domain = cell.graph.wait_for(r'ROS_DOMAIN_ID=(\d+)', 1.0)[1]
    name, value = cell.mark.split('=')
    process = subprocess.Popen(
        [str(find_executable('chef_control', 'recorder', os.environ)), '--ros-args', '-r', '__node:=recorder_2',
         '-r', f'__ns:=/{NAMESPACE}', '-p', f'run_dir:={cell.run}', '-p', 'observation:=state'],
        env={**os.environ, **middleware(os.environ, simulated=True), 'ROS_DOMAIN_ID': domain, name: value},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        text, _ = process.communicate(timeout=deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return ['a second recorder works on the same folder']
    if process.returncode == 0 or 'Traceback' in text or str(cell.run) not in text:
        return [f'a second recorder ends with {process.returncode} and says {text.strip()!r}']
    return []


# ---- policies -----------------------------------------------------------------------------------

def wait_for_version(policies: Path, deadline_s: float = 90.0) -> None:
    """Until the learner has published."""
    end = time.monotonic() + deadline_s
    while not any(map(whole, versions(policies))):
        assert time.monotonic() < end, 'the learner published nothing'
        time.sleep(0.1)


def damaged_version(policies: Path, how: str, rng: Random) -> str:
    """Puts a damaged copy of the newest whole version in front of all others; its name."""
    there = [v for v in versions(policies) if whole(v)]
    number = int(versions(policies)[-1].name[1:]) + 1000    # far from what the learner is about to write
    name = f'v{number:06d}'
    temporary = policies / f'.{name}.campaign'
    shutil.copytree(there[-1], temporary)
    tensors = temporary / 'policy.safetensors'
    data = bytearray(tensors.read_bytes())
    if how == 'truncated':
        tensors.write_bytes(data[:rng.randrange(len(data))])
    elif how == 'bit flipped':
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        tensors.write_bytes(data)
    else:
        (temporary / 'policy.json').unlink()
    temporary.rename(policies / name)
    return name


def whole(version: Path) -> bool:
    """Whether a version is what it says."""
    try:
        info = json.loads((version / 'policy.json').read_text())
        return hashlib.sha256((version / 'policy.safetensors').read_bytes()).hexdigest() == info['sha256']
    except (OSError, ValueError):
        return False


def kept_the_old_policy(cell: Cell, damaged: str) -> list[str]:
    """The damaged version has been named, and acted in no episode."""
    problems = []
    if not any(f'/{damaged}/' in line and line.startswith('[policy]') for line in cell.graph.lines):
        problems.append(f'nobody told of {damaged}')
    problems += [f'{bag.name} was acted by {damaged}' for bag in witness.sealed(cell.run)[-3:]
                 if witness.read_record(bag).policy == damaged]
    return problems


def only_whole_versions(cell: Cell) -> list[str]:
    """No version that can be seen is half written; the damaged ones of the campaign apart."""
    return [f'{v.name} is not whole' for v in versions(cell.run / 'policies')
            if not whole(v) and v.name not in {name for _, name in cell.damaged}]

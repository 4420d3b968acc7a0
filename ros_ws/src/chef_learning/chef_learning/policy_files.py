# SPDX-License-Identifier: Apache-2.0
"""Policy versions on disk: `<run>/policies/v000001/{policy.safetensors, policy.json}`, no pickle in them.

A version is written beside its place and renamed, so that whoever lists the folder sees whole ones only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chef_learning import __version__
from chef_learning.config import OBSERVATIONS, NetworkConfig, ScheduleConfig
from chef_task.errors import OneLineError
from chef_task.settings import build, to_dict

if TYPE_CHECKING:      # torch takes seconds to import, and listing versions does not need it
    from chef_learning.config import LearnerConfig
    from chef_learning.networks import Actor

FORMAT = 3      # 2: with the first encoding of features, see `encoding.VERSION`
NO_VERSION = 'v000000'
_NAME = re.compile(r'v(\d{6,})')


class PolicyError(OneLineError):
    """A policy cannot be used; the text is one line that names it and the cause."""


@dataclass(frozen=True)
class PolicyInfo:
    """What policy.json says. `sha256` is of policy.safetensors; `labels` names what it learned from, empty if the
    rewards were those of the bags.
    """

    version: str
    observation: str
    haptics: bool
    tasks: tuple[str, ...]
    network: NetworkConfig
    updates: int
    schedule: ScheduleConfig
    created: str
    software: str
    sha256: str
    labels: str = ''


def versions(folder: str | Path) -> list[Path]:
    """Complete versions, oldest first."""
    folder = Path(folder)
    found = {int(m[1]): p for p in (folder.iterdir() if folder.is_dir() else ())
             if (m := _NAME.fullmatch(p.name)) and p.is_dir()}
    return [found[k] for k in sorted(found)]


def save_version(folder: str | Path, actor: Actor, config: LearnerConfig, updates: int,
                 tasks: tuple[str, ...], labels: str = '') -> Path:
    """Writes the next version and returns its folder; OSError if the disk refuses."""
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    there = versions(folder)
    name = f'v{(int(there[-1].name[1:]) if there else 0) + 1:06d}'
    tensors = save({k: v.detach().cpu().contiguous() for k, v in actor.state_dict().items()})
    info = {
        'format': FORMAT, 'version': name, 'observation': config.observation, 'haptics': config.haptics,
        'tasks': list(tasks), 'labels': labels, 'network': to_dict(config.network), 'updates': updates,
        'schedule': to_dict(config.schedule),
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'), 'software': __version__,
        'sha256': hashlib.sha256(tensors).hexdigest(),
    }
    temporary = folder / f'.{name}.partial'
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        text = json.dumps(info, indent=1) + '\n'
        for file, data in (('policy.safetensors', tensors), ('policy.json', text.encode())):
            with open(temporary / file, 'xb') as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
        os.rename(temporary, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / name


def read_info(folder: str | Path) -> PolicyInfo:
    """What policy.json says; PolicyError if it is missing, damaged or of another format."""
    path = Path(folder) / 'policy.json'
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except OSError as e:
        raise PolicyError(f'{path}: cannot be read: {e.strerror}') from None
    except (ValueError, RecursionError):
        raise PolicyError(f'{path}: damaged: not JSON') from None
    try:
        return _check(values)
    except ValueError as e:
        raise PolicyError(f'{path}: damaged: {e}') from None


def _check(values: Any) -> PolicyInfo:
    if not isinstance(values, dict) or values.get('format') != FORMAT:
        raise ValueError(f'not a policy of format {FORMAT}')
    kinds = {'version': str, 'observation': str, 'haptics': bool, 'tasks': list, 'labels': str, 'network': dict,
             'updates': int, 'schedule': dict, 'created': str, 'software': str, 'sha256': str}
    for key, kind in kinds.items():
        if not isinstance(values.get(key), kind):
            raise ValueError(f'{key} is missing or not of type {kind.__name__}')
    if values['observation'] not in OBSERVATIONS:
        raise ValueError(f'observation must be one of {", ".join(OBSERVATIONS)}')
    if not values['tasks'] or not all(isinstance(t, str) for t in values['tasks']):
        raise ValueError('tasks must be names')
    known = {k: values[k] for k in kinds}
    return PolicyInfo(**{**known, 'tasks': tuple(values['tasks']),
                         'network': build(NetworkConfig, values['network'], 'network'),
                         'schedule': build(ScheduleConfig, values['schedule'], 'schedule')})


def read_tensors(folder: str | Path, info: PolicyInfo) -> dict:
    """Parameter name to torch tensor; PolicyError if missing, or not the file that policy.json names."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(folder) / 'policy.safetensors'
    try:
        data = path.read_bytes()
    except OSError as e:
        raise PolicyError(f'{path}: cannot be read: {e.strerror}') from None
    if hashlib.sha256(data).hexdigest() != info.sha256:
        raise PolicyError(f'{path}: truncated or damaged: its SHA-256 is not the one in policy.json')
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as e:
        raise PolicyError(f'{path}: damaged: {e}') from None

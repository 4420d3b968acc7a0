# SPDX-License-Identifier: Apache-2.0
"""An experiment's folder: experiment.yaml, and a folder for each stage with what it made and where that came from.

    <experiment>/
      experiment.yaml
      01_collect/stage.json, t1/{episodes, policies, learner, replay}
      02_explore/stage.json, t1/<candidate>/{candidate.json, result.json, policies, learner, replay, log.txt}
      03_execute/stage.json, t1/{episodes, trials.json}
      04_finetune/...                as explore
      report.html, report.md

A stage's state is what lies in its folder; stage.json says what it was made of, and whether it is finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from chef_learning import __version__
from chef_learning.experiment.config import ExperimentConfig, Stage
from chef_task import episode_file
from chef_task.bag import find_episodes
from chef_task.bag.disk import lock_writing
from chef_task.errors import OneLineError
from chef_task.whole_file import write_json

STATE, SPEC, RESULT = 'stage.json', 'candidate.json', 'result.json'


class ExperimentError(OneLineError):
    """The experiment cannot go on; the text is one line. usage: it was asked for something that it does not have."""

    def __init__(self, text: object, usage: bool = False):
        super().__init__(text)
        self.usage = usage


class Experiment:
    """One folder.

    Raises:
      ExperimentError: there is no such folder, or its file is wrong.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ExperimentError(f'{self.folder}: no such folder', usage=True)
        try:
            self.config = ExperimentConfig.load(self.folder)
        except ValueError as e:
            raise ExperimentError(e, usage=True) from None
        self.name = self.config.head.name or self.folder.resolve().name

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.config.stages

    def lock(self) -> int:
        """For as long as stages run; ExperimentError if others run them."""
        fd = os.open(self.folder / 'experiment.lock', os.O_RDWR | os.O_CREAT, 0o644)
        if not lock_writing(fd):
            os.close(fd)
            raise ExperimentError(f'{self.folder}: its stages run already', usage=True)
        return fd

    def place(self, stage: Stage, triplet: int | None = None) -> Path:
        """The folder of a stage, or of a triplet in it."""
        folder = self.folder / stage.name
        return folder if triplet is None else folder / f't{triplet}'

    def state(self, stage: Stage) -> dict:
        """What stage.json says, {} before the stage has begun; ExperimentError if it is damaged."""
        return read_json(self.place(stage) / STATE)

    def finished(self, stage: Stage) -> bool:
        """Whether it has done all it should; ExperimentError if that was something else than is asked for now."""
        state = self.state(stage)
        if state and _what(state['settings']) != _what(_settings(self, stage)):
            raise ExperimentError(f'{self.place(stage) / STATE}: the stage was made with other settings than '
                                  f'{self.folder / "experiment.yaml"} has now: undo them, or move the folder away', usage=True)
        return bool(state.get('finished'))

    def begin(self, stage: Stage) -> None:
        """Writes what the stage is made of, when it begins."""
        if not self.state(stage):
            self.place(stage).mkdir(parents=True, exist_ok=True)
            write_json(self.place(stage) / STATE, {
                'settings': _settings(self, stage), 'commits': [commit()], 'begun': now(), 'seconds': 0.0, 'finished': '',
                'data': {f't{t}': self.digest(stage, t) for t in self.config.head.triplets}})

    def spend(self, stage: Stage, seconds: float, finished: bool) -> None:
        """Adds what the stage has cost, and whether it is done."""
        state, code = self.state(stage), commit()
        state['seconds'] = round(state['seconds'] + seconds, 1)
        if code not in state['commits']:
            state['commits'].append(code)
        if finished:
            state['finished'] = now()
        write_json(self.place(stage) / STATE, state)

    def before(self, stage: Stage, *kinds: str) -> list[Stage]:
        """Earlier stages of some kinds, the newest last."""
        return [s for s in self.stages if s.number < stage.number and s.kind in kinds]

    def data(self, stage: Stage, triplet: int) -> list[Path]:
        """Folders with the episodes of a triplet that were there when a stage began."""
        return [folder for _, folders in self._sources(stage, triplet) for folder in folders]

    def _sources(self, stage: Stage, triplet: int) -> list[tuple[Stage, list[Path]]]:
        """Earlier stages that gave episodes of a triplet, and the folders of those; of explore there are such if it acts."""
        out = []
        for earlier in self.before(stage, 'collect', 'explore', 'execute'):
            folders = self.made(earlier, triplet)
            out += [(earlier, folders)] if folders else []
        return out

    def made(self, stage: Stage, triplet: int) -> list[Path]:
        """Folders that a stage puts episodes of a triplet into."""
        place = self.place(stage, triplet)
        return sorted(place.glob('*/episodes')) if stage.kind == 'explore' else \
            [place / 'episodes'] if stage.kind in ('collect', 'execute') else []

    def digest(self, stage: Stage, triplet: int) -> list[dict]:
        """Stage, number of episodes and SHA-256 over names and content of the data of a stage."""
        out = []
        for earlier, folders in self._sources(stage, triplet):
            paths = [path for folder in folders for path in episodes_in(folder)]
            whole = hashlib.sha256()
            for path in paths:
                whole.update(f'{path.name} {_sha256(path)}\n'.encode())
            out.append({'stage': earlier.name, 'episodes': len(paths), 'sha256': whole.hexdigest()})
        return out


def _settings(experiment: Experiment, stage: Stage) -> dict:
    """What makes a stage what it is, as JSON."""
    head = asdict(experiment.config.head)
    return json.loads(json.dumps({'kind': stage.kind, 'values': stage.values, **{k: v for k, v in head.items() if k != 'name'},
                                  'learner': experiment.config.learner.to_dict()}))


def _what(settings: dict) -> dict:
    """Without what says only how many candidates train at a time, and on how much of a machine."""
    return {**settings, 'values': {k: v for k, v in settings['values'].items() if k not in ('jobs', 'cpus', 'gpus')}}


def episodes_in(folder: Path) -> list[Path]:
    """Sealed bags and episode files in a folder, sorted."""
    return sorted([*find_episodes(folder), *episode_file.find(folder)]) if folder.is_dir() else []


def _sha256(path: Path) -> str:
    files = sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.read_bytes())
    return whole.hexdigest()


def commit() -> str:
    """The commit of this code, with + if files were changed since; else the version."""
    try:
        done = subprocess.run(['git', 'describe', '--always', '--abbrev=40', '--exclude=*', '--dirty=+'],
                              cwd=Path(__file__).resolve().parent, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def read_json(path: Path) -> dict:
    """A mapping, {} if there is no such file; ExperimentError if it is damaged."""
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as e:
        raise ExperimentError(f'{path}: cannot be read: {e}') from None
    if not isinstance(value, dict):
        raise ExperimentError(f'{path}: damaged: not a mapping')
    return value

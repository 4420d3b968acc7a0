# SPDX-License-Identifier: Apache-2.0
"""Labels: rewards computed anew over old bags, as versioned sidecars beside them; bags are never touched.

    <run>/episodes/<episode_id>/               the bag
    <run>/labels/<version>/version.json        task names, sources with their hashes, software, date
    <run>/labels/<version>/<episode_id>.npz    rewards float32 [N, tasks], stamps int64 [N], about (JSON text)

    labels = Labels.begin('runs/first/labels', 'v2', RewardSet.load(['my_task.py:red_high']))
    labels.write(episode, rewards)
    ...
    labels = Labels.find('v2', 'runs/first')
    rewards = labels.read(Episode.open(path))

A version means one definition of its rewards, for good: a file is written once and never replaced, and
going on with other functions under the same name is refused. No file holds a pickle.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from chef_task import __version__
from chef_task.bag.errors import BagError
from chef_task.bag.files import find_bags
from chef_task.bag.reader import Episode
from chef_task.bag.reward_tasks import RewardSet, definition_of

FORMAT = 1
MANIFEST = 'version.json'
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,63}')


class LabelError(BagError):
    """Labels cannot be written or used; the text is one line that names them and the cause."""


class NoLabels(LabelError):
    """There are none: of this version, or of this bag."""


def labels_folder(bag: Path | str) -> Path:
    """Where the labels of a bag are: `labels/` of its run, or beside it where no `episodes/` holds it."""
    parent = Path(os.path.abspath(bag)).parent
    return (parent.parent if parent.name == 'episodes' else parent) / 'labels'


def check_name(name: str) -> str:
    """The name of a version; LabelError if it is none."""
    if not _NAME.fullmatch(name):
        raise LabelError(f'{name!r:.80} is no name of labels: 1 to 64 letters, digits, _ . - '
                         'that start with a letter or digit')
    return name


def steps_digest(episode: Episode) -> str:
    """SHA-256 of which samples the Steps name: index, stamp and every stream's stamp."""
    digest = hashlib.sha256()
    for s in episode.steps():
        digest.update(json.dumps([s.index, s.stamp, sorted(s.stamps.items())]).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Labels:
    """One version of labels.

    name: of the version. tasks: names of the columns of `read`. definition: SHA-256 that stands for the
    functions. folder: of the version, where all of it is in one place; else None: each bag's is beside it.
    """

    name: str
    tasks: tuple[str, ...]
    definition: str
    folder: Path | None = None

    # -- finding and reading

    @classmethod
    def open(cls, folder: Path | str) -> Labels:
        """The version in a folder; NoLabels if there is none, LabelError if its version.json is damaged."""
        folder = Path(folder)
        manifest = read_manifest(folder)
        if Path(os.path.abspath(folder)).name != manifest['version']:
            raise LabelError(f'{folder}: was renamed, it holds version {manifest["version"]}')
        return cls(manifest['version'], tuple(t['name'] for t in manifest['tasks']), manifest['definition'],
                   folder)

    @classmethod
    def find(cls, version: str, bags: Path | str) -> Labels:
        """A version by its name, beside the bags under a folder; or by the path of its folder, with a slash.

        Raises:
          NoLabels: no bag there has labels of that version.
          LabelError: two runs have another version of the same name, or one is damaged.
        """
        if '/' in version:
            return cls.open(version)
        check_name(version)
        bags = Path(bags)
        # a run may have its first bag later, and DIR may be a run or its episodes folder
        places = {labels_folder(bags / 'x'), labels_folder(bags / 'episodes' / 'x')}
        places |= {labels_folder(p) for p in (find_bags(bags) if bags.is_dir() else ())}
        found = [cls.open(p / version) for p in sorted(places) if (p / version / MANIFEST).is_file()]
        if not found:
            there = sorted({v.parent.name for p in places for v in p.glob(f'*/{MANIFEST}')})
            raise NoLabels(f'{bags}: has no labels {version!r}, ' + (
                f'but {", ".join(there)}' if there else 'nor others: see ./chef bags relabel --help'))
        for other in found[1:]:
            if other.definition != found[0].definition:
                raise LabelError(f'{other.folder}: made with other functions than {found[0].folder}')
        return cls(version, found[0].tasks, found[0].definition)

    def path(self, bag: Path | str) -> Path:
        """Of the file with a bag's labels, whether it is there or not."""
        return (self.folder or labels_folder(bag) / self.name) / f'{Path(os.path.abspath(bag)).name}.npz'

    def read(self, episode: Episode) -> np.ndarray:
        """Rewards of all Steps of an episode, float32 [N, tasks]; NaN where a sample was not finite.

        Raises:
          NoLabels: this bag has none.
          LabelError: damaged, of another bag, or made with other functions.
        """
        path = self.path(episode.path)
        rewards, about = _load(path)
        for key, expected in self._about(episode).items():
            if about.get(key) != expected:
                raise LabelError(f'{path}: {_MISFITS.get(key, f"its {key} does not fit")}')
        if rewards.shape != (len(episode.steps()), len(self.tasks)):
            raise LabelError(f'{path}: damaged: rewards of shape {rewards.shape}')
        return rewards

    def has(self, bag: Path | str) -> bool:
        """Whether a bag has labels; LabelError if they are damaged or of other functions."""
        try:
            _, about = _load(self.path(bag))
        except NoLabels:
            return False
        if about.get('definition') != self.definition:
            raise LabelError(f'{self.path(bag)}: {_MISFITS["definition"]}')
        return True

    def _about(self, episode: Episode) -> dict:
        return {'format': FORMAT, 'version': self.name, 'definition': self.definition, 'tasks': list(self.tasks),
                'episode_id': episode.record.episode_id, 'steps': len(episode.steps()),
                'steps_sha256': steps_digest(episode)}

    # -- writing

    @classmethod
    def begin(cls, folder: Path | str, name: str, rewards: RewardSet) -> tuple[Labels, bool]:
        """Makes or goes on with the version `<folder>/<name>`.

        Returns:
          The version, and whether it is new.

        Raises:
          LabelError: it was made with other functions, is damaged, or the folder cannot be written.
        """
        target = Path(folder) / check_name(name)
        described = rewards.describe()
        new = not target.exists()
        if new:
            _make(target, {'format': FORMAT, 'version': name, **described, 'software': __version__,
                           'created': datetime.now(timezone.utc).isoformat(timespec='seconds')})
        there = cls.open(target)
        if there.definition != described['definition']:
            raise LabelError(f'{target}: made with other functions or another version of chef_task/rewards.py; '
                             'a version is never changed: choose another --name')
        return there, new

    def write(self, episode: Episode, rewards: np.ndarray) -> Path:
        """Writes a bag's labels, whole or not at all; LabelError if it has some, or the disk refuses."""
        path = self.path(episode.path)
        if path.exists():
            raise LabelError(f'{path}: is there already, and is never replaced')
        buffer = io.BytesIO()
        np.savez(buffer, rewards=np.asarray(rewards, '<f4'),
                 stamps=np.array([s.stamp for s in episode.steps()], '<i8'),
                 about=np.array(json.dumps(self._about(episode))))
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.partial')
        try:
            try:
                _write(temporary, buffer.getvalue())
                os.rename(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as e:
            raise _unwritable(path, e) from e
        return path


_MISFITS = {'definition': 'made with other functions than this version',
            'episode_id': 'labels of another episode', 'steps': 'the bag has another number of Steps',
            'steps_sha256': 'the Steps of the bag name other samples than those that were labelled'}


def _write(path: Path, data: bytes) -> None:
    with open(path, 'wb') as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def _unwritable(path: Path, e: OSError) -> LabelError:
    return LabelError(f'{path}: cannot be written: {e.strerror or e}; --output puts labels elsewhere')


def _make(target: Path, manifest: dict) -> None:
    """Makes the folder of a version with its manifest; somebody else's, made meanwhile, is left."""
    temporary = target.with_name(f'.{target.name}.{os.getpid()}.partial')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            _write(temporary / MANIFEST, (json.dumps(manifest, indent=1) + '\n').encode())
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as e:
        if not (target / MANIFEST).is_file():
            raise _unwritable(target, e) from e


def read_manifest(folder: Path) -> dict:
    """What version.json holds, checked; NoLabels if there is none, LabelError if it is damaged."""
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError):
        raise NoLabels(f'{folder}: holds no labels: it has no {MANIFEST}') from None
    except OSError as e:
        raise LabelError(f'{path}: cannot be read: {e.strerror}') from None
    except (ValueError, RecursionError):
        raise LabelError(f'{path}: damaged: not JSON') from None
    if not isinstance(values, dict) or values.get('format') != FORMAT:
        raise LabelError(f'{path}: not labels of format {FORMAT}')
    try:
        whole = (values['definition'] == definition_of(values['tasks'], values['code']) and values['tasks']
                 and all(isinstance(values[k], str) for k in ('version', 'software', 'created'))
                 and all(isinstance(t['name'], str) for t in values['tasks'])
                 and all(hashlib.sha256(text.encode()).hexdigest() == key
                         for key, text in values['sources'].items())
                 and {t['sha256'] for t in values['tasks']} <= set(values['sources']))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        whole = False
    if not whole:
        raise LabelError(f'{path}: damaged or edited: its contents do not fit its hashes')
    return values


def _load(path: Path) -> tuple[np.ndarray, dict]:
    """Rewards [N, tasks] and the JSON about them, unchecked against any bag."""
    try:
        with np.load(path, allow_pickle=False) as data:     # a zip: its checksums find damage
            rewards, about = data['rewards'], json.loads(str(data['about']))
    except FileNotFoundError:
        raise NoLabels(f'{path}: no labels') from None
    except OSError as e:
        raise LabelError(f'{path}: cannot be read: {e.strerror or e}') from e
    except Exception as e:      # zip, zlib and numpy each have errors of their own
        raise LabelError(f'{path}: damaged: {e or type(e).__name__}') from e
    if not isinstance(about, dict) or rewards.dtype != np.float32 or np.any((rewards < 0) | (rewards > 1)):
        raise LabelError(f'{path}: damaged: it holds no rewards')
    return rewards, about

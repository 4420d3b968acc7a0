# SPDX-License-Identifier: Apache-2.0
"""An episode in one small file, `<episode id>.npz`: what a simulated cell without a recorder leaves (./chef simulate).

It holds what replay needs of a bag, and its features are those that `observation.features` gives for the bag of the
same episode. What a bag has beyond that follows from lockstep and from the record: the stamps of Step k are
start_ns + 50 ms * k for every stream, and the samples at their native rates are those that the same cell gives again
when the same seed is reset and the same actions are taken, with the software that `metadata` names.

Written beside its place and renamed: whoever lists the folder sees whole files only.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from chef_task.errors import OneLineError
from chef_task.messages import Sample
from chef_task.observation import FIELDS, fields_of
from chef_task.records import EpisodeRecord, Reason, StepRecord
from chef_task.spaces import ACTION_SIZE, CAMERAS, CONTROL_PERIOD_NS, GRIPPER_CLOSED, streams_of

SUFFIX = '.npz'
FORMAT = 2              # 1: without what is exact, see `write`
# stream, field: shape of what features are computed from in double precision
_EXACT = {('tcp_pose', 'pose'): (7,), ('objects', 'poses'): (3, 7), ('gripper', 'velocity'): (1,)}
# stream to field to the feature that holds it as it is, the register of the gripper's position as a fraction
_SINGLE = {'joints': {'position': 'joint_angle', 'velocity': 'joint_velocity', 'effort': 'joint_torque'},
           'tcp_twist': {'twist': 'tcp_velocity'},
           'gripper': {'position': 'gripper_position', 'grasp': 'gripper_grasp'},
           'wrench': {'force': 'wrist_force', 'torque': 'wrist_torque'}}
_LARGEST = 1 << 28      # bytes of one array, decompressed; ours are below 1 MB, with images 60 MB


def episode_id(number: int, name: str = 'sim') -> str:
    """Of the episode with this number in a run without a clock of its own."""
    return f'{name}_{number:08d}'


class EpisodeFileError(OneLineError):
    """The file is damaged or holds something else; the text is one line that names it."""


def write(path: Path | str, record: EpisodeRecord, observation: str, steps: Sequence[StepRecord],
          features: Sequence[Mapping[str, np.ndarray]], samples: Sequence[Mapping[str, Sample]] = ()) -> None:
    """Writes an episode's Steps with the features of each; OSError if the disk refuses, nothing is left then.

    Args:
      observation: 'state' or 'pixels', which of the features are kept.
      samples: of each Step, streams as in a bag. Of them is kept what features, which are single, cannot give back
        exactly; a bag can only be made of a file that has it.
    """
    path = Path(path)
    about = {'format': FORMAT, 'observation': observation, **dataclasses.asdict(record)}
    arrays = {
        'record': np.frombuffer(json.dumps(about).encode(), np.uint8),
        'action': np.array([s.action for s in steps], np.float32),
        'rewards': np.array([s.rewards for s in steps], np.float32),
        'discount': np.array([s.discount for s in steps], np.float32),
        'task': np.array([s.task for s in steps], np.int32),
        **{f'feature_{k}': np.stack([f[k] for f in features]) for k in fields_of(observation) if k != 'last_action'},
        **({f'exact_{s}_{k}': np.stack([x[s][k] for x in samples]) for s, k in _EXACT} if samples else {}),
    }
    temporary = path.with_name(f'.{path.name}.partial')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, 'wb') as f:
            # not np.savez: it would write the time into the file
            with zipfile.ZipFile(f, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as z:
                for name, value in arrays.items():
                    data = io.BytesIO()
                    np.save(data, value)
                    z.writestr(zipfile.ZipInfo(f'{name}.npy'), data.getbuffer(), zipfile.ZIP_DEFLATED)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def find(folder: Path | str) -> list[Path]:
    """The episodes directly in a folder, sorted by name; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.endswith(SUFFIX) and not e.name.startswith('.')]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [Path(folder, n) for n in sorted(names)]


class EpisodeFile:
    """An episode that `write` left, read as `chef_task.bag.Episode` is: `record`, `observation`, `steps`, `features`,
    `samples`, `iterate`.

    `columns` is the same as `features`, in one piece.
    """

    def __init__(self, path: Path | str):
        """Reads it; EpisodeFileError where it is damaged or not one of ours."""
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as z:
                self._arrays = {i.filename.removesuffix('.npy'): _array(z, i) for i in z.infolist()}
            self.record, self.observation = _about(self._arrays.pop('record'))
            self._check()
        except Exception as e:      # parsers of damaged data raise several kinds
            raise _damaged(self.path, e) from None

    def _check(self) -> None:
        count, tasks = self.record.steps + 1, len(self.record.tasks)
        fields = {f'feature_{k}': f for k, f in fields_of(self.observation).items() if k != 'last_action'}
        expected = {'action': (count, ACTION_SIZE), 'rewards': (count, tasks), 'discount': (count,), 'task': (count,),
                    **{k: (count, *f.shape) for k, f in fields.items()}}
        kinds = {'task': 'int32', **{k: f.dtype for k, f in fields.items()}}
        if self.exact:
            exact = {f'exact_{s}_{k}': (count, *shape) for (s, k), shape in _EXACT.items()}
            expected |= exact
            kinds |= dict.fromkeys(exact, 'float64')
        for name, shape in expected.items():
            a = self._arrays[name]
            if a.shape != shape or a.dtype != kinds.get(name, 'float32'):
                raise ValueError(f'{name} is {a.dtype} of shape {a.shape}, expected {shape}')
        Reason.of(self.record.termination_reason)

    @property
    def exact(self) -> bool:
        """Whether `samples` can be had of it, and a bag; files of the first format lack what that needs."""
        return any(k.startswith('exact_') for k in self._arrays)

    def steps(self) -> list[StepRecord]:
        """All Steps, as a bag has them."""
        a, r = self._arrays, self.record
        streams, last = streams_of(self.observation), self.record.steps
        past = np.concatenate([np.zeros((1, ACTION_SIZE), np.float32), a['action'][:-1]])
        return [StepRecord(
            stamp=(stamp := r.start_ns + k * CONTROL_PERIOD_NS), index=k, stamps=dict.fromkeys(streams, stamp),
            last_action=past[k], action=a['action'][k], task=int(a['task'][k]), policy_version=r.policy_version,
            rewards=a['rewards'][k], discount=float(a['discount'][k]), last=k == last) for k in range(last + 1)]

    def features(self) -> Iterator[tuple[StepRecord, dict[str, np.ndarray]]]:
        """(Step, its single-step features as in `observation.FIELDS`) in order."""
        keys = [k for k in FIELDS if f'feature_{k}' in self._arrays]
        for k, step in enumerate(self.steps()):
            yield step, {'last_action': step.last_action, **{n: self._arrays[f'feature_{n}'][k] for n in keys}}

    def columns(self) -> dict[str, np.ndarray]:
        """All Steps at once: `action`, `rewards`, `discount`, `task` and the features by name, [T + 1, ...] each."""
        a = self._arrays
        past = np.concatenate([np.zeros((1, ACTION_SIZE), np.float32), a['action'][:-1]])
        return {'last_action': past,
                **{k.removeprefix('feature_'): v for k, v in a.items() if not k.startswith('exact_')}}

    def samples(self, step: StepRecord, streams: Sequence[str] | None = None) -> dict[str, Sample]:
        """Stream to sample of a Step: `observation.features` of them are those of the file, bit for bit.

        Args:
          step: one of `steps()`.
          streams: only these of them; all if not given.

        Raises:
          EpisodeFileError: the file is of the first format, without what that needs, or has no such stream.
        """
        return {name: self._sample(name, step.index) for name in (step.stamps if streams is None else streams)}

    def iterate(self, streams: Sequence[str] | None = None) -> Iterator[tuple[StepRecord, dict[str, Sample]]]:
        """(Step, its samples by stream) in order; arguments and errors as of `samples`."""
        for step in self.steps():
            yield step, self.samples(step, streams)

    def _sample(self, stream: str, k: int) -> Sample:
        a = self._arrays
        if stream not in streams_of(self.observation):
            raise EpisodeFileError(f'{self.path}: has no stream {stream!r}')
        if stream in CAMERAS:
            return {'image': a[f'feature_image_{stream}'][k]}
        out = {n: a[f'feature_{f}'][k].astype(float) for n, f in _SINGLE.get(stream, {}).items()}
        for s, n in (e for e in _EXACT if e[0] == stream):
            if not self.exact:
                raise EpisodeFileError(f'{self.path}: was written before files kept what a bag needs')
            out[n] = a[f'exact_{s}_{n}'][k]
        if stream == 'gripper':     # a register, of which the feature is a fraction
            out['position'] = np.round(out['position'] * GRIPPER_CLOSED)
        return out


def read_record(path: Path | str) -> EpisodeRecord:
    """What the episode was, without reading its Steps; EpisodeFileError as `EpisodeFile`, where that is damaged."""
    try:
        with zipfile.ZipFile(path) as z:
            return _about(_array(z, z.getinfo('record.npy')))[0]
    except Exception as e:      # parsers of damaged data raise several kinds
        raise _damaged(path, e) from None


def _about(text: np.ndarray) -> tuple[EpisodeRecord, str]:
    """The record and 'state' or 'pixels', of the array that `write` makes of them."""
    about = json.loads(text.tobytes())
    if about.pop('format') not in (1, FORMAT):
        raise ValueError(f'not an episode of format {FORMAT} or 1')
    observation = about.pop('observation')
    for name in ('tasks', 'returns'):
        about[name] = tuple(about[name])
    return EpisodeRecord(**about), observation


def _damaged(path: Path | str, e: Exception) -> EpisodeFileError:
    cause = e.strerror if isinstance(e, OSError) and e.strerror else str(e) or type(e).__name__
    return EpisodeFileError(f'{path}: not an episode, or damaged: {cause}')


def _array(z: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.file_size > _LARGEST:
        raise ValueError(f'{info.filename} has {info.file_size} bytes')
    return np.lib.format.read_array(io.BytesIO(z.read(info)), allow_pickle=False)

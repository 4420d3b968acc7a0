# SPDX-License-Identifier: Apache-2.0
"""Targets of `fuzz.py` that the learner writes: checkpoints, policy versions, replay."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from fuzzing.bags import lean_episode
from fuzzing.mutate import mutate_bytes, mutate_tree, text_of
from fuzzing.target import Target

from chef_learning import checkpoint, policy_files
from chef_learning.checkpoint import CheckpointError
from chef_learning.config import LearnerConfig
from chef_learning.learner import Learner
from chef_learning.policy import PolicyError, load_policy
from chef_learning.replay import Replay, ReplayError
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.observation import fields_of
from chef_task.rewards import TASKS

torch.set_num_threads(1)
CONFIG = LearnerConfig.from_dict({
    'batch_size': 4, 'network': {'encoder': 8, 'torso': [8], 'head': [4], 'atoms': 5}, 'mpo': {'action_samples': 2}})


def _batch(folder: Path):
    replay = Replay(folder / 'replay', 'state')
    replay.sync(write_synthetic_episode(folder / 'bags', 6, 8, 'state').parent)
    return replay.sample(np.random.default_rng(0), CONFIG.batch_size, CONFIG.n_step, CONFIG.discount)


def _other(rng: random.Random, value):
    """Something else where a checkpoint has this."""
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return rng.choice((
            lambda: value.reshape(-1)[:0], lambda: value.double(), lambda: value.flatten(), lambda: torch.zeros(3),
            lambda: torch.full_like(value, float('nan')) if value.is_floating_point() else value + 1,
            lambda: torch.zeros(1).expand(10**6, 10**5), lambda: value.to(torch.complex64), lambda: value.to_sparse(),
            lambda: value.bool(), lambda: torch.zeros(0, device='meta')))()
    return rng.choice((None, 0, -1, 10**30, float('nan'), float('inf'), '', 'x', '{}', '[' * 5000, [], {}, [1], {'a': 1}, True,
                       torch.zeros(()), (0.9, 2.0)))


class Checkpoint(Target):
    """Bytes below a right checksum or a wrong one, and what is pickled; up to the update after it."""

    errors = (CheckpointError,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._batch = _batch(folder)
        self._learner = Learner(CONFIG, 0)
        self._learner.step(self._batch)
        self.path = checkpoint.save(self._learner, folder / 'checkpoints')
        self.named = self.path.name
        self._data = self.path.read_bytes()
        self._state = checkpoint.load(self.path)

    def make(self, rng: random.Random) -> None:
        head = self._data.index(b'\n') + 1
        if rng.random() < 0.2:
            data = mutate_bytes(rng, self._data)
        else:
            body = self._data[head + 32:]
            if rng.random() < 0.4:
                # pickle and the directory of the zip are what steers; the tensors between do not
                at = rng.choice((0, body.find(b'data.pkl'), max(0, len(body) - 2500)))
                body = body[:at] + mutate_bytes(rng, body[at:at + 6000]) + body[at + 6000:]
            else:
                state = copy.deepcopy(self._state)
                self._change(rng, state)
                buffer = io.BytesIO()
                torch.save(state, buffer)
                body = buffer.getvalue()
            data = self._data[:head] + hashlib.sha256(body).digest() + body
        self.path.write_bytes(data)

    def _change(self, rng: random.Random, state) -> None:
        if rng.random() < 0.2:
            key = rng.choice(('config', 'tasks'))
            state[key] = text_of(rng, mutate_tree(rng, json.loads(state[key])), 'json').decode('utf-8', 'replace')
            return
        place = state
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                return
            key = rng.choice(keys)
            if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.9:
                place = place[key]
                continue
            if rng.random() < 0.2:
                del place[key]
            else:
                place[key] = _other(rng, place[key])
            return

    def load(self) -> None:
        learner = copy.deepcopy(self._learner)
        path, problems = checkpoint.resume(learner, self.path.parent)
        if path is None:
            raise CheckpointError(problems[0])
        try:
            learner.step(self._batch)
        except FloatingPointError:      # of a NaN in it: the learner's own clear error
            pass


class Policy(Target):
    """policy.json and the tensors of a version, up to its first action."""

    errors = (PolicyError,)

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._versions = folder / 'policies'
        self.path = policy_files.save_version(self._versions, Learner(CONFIG, 0).actor, CONFIG, 5, TASKS)
        self.named = self.path.name
        self._json = (self.path / 'policy.json').read_bytes()
        self._tree = json.loads(self._json)
        self._tensors = (self.path / 'policy.safetensors').read_bytes()
        self._observation = {k: np.zeros((f.history, *f.shape), f.dtype) for k, f in fields_of('state', True).items()}

    def make(self, rng: random.Random) -> None:
        tree, tensors = copy.deepcopy(self._tree), self._tensors
        kind = rng.randrange(4)
        if kind == 0:
            tensors = mutate_bytes(rng, tensors)
        elif kind == 1:         # the header: JSON after its length of 8 bytes
            size = int.from_bytes(tensors[:8], 'little')
            header = text_of(rng, mutate_tree(rng, json.loads(tensors[8:8 + size])), 'json')
            tensors = len(header).to_bytes(8, 'little') + header + tensors[8 + size:]
        if rng.random() < 0.9:
            tree['sha256'] = hashlib.sha256(tensors).hexdigest()
        text = json.dumps(tree).encode()
        if kind == 2:
            text = text_of(rng, mutate_tree(rng, tree), 'json')
        elif kind == 3:
            network = mutate_tree(rng, tree['network'])
            if isinstance(network, dict) and rng.random() < 0.3:
                network[rng.choice(('torso', 'head', 'channels'))] = rng.choice(([8192] * 4000, [8192, 8192, 8192], [1] * 5000))
            text = text_of(rng, {**tree, 'network': network}, 'json')
        (self.path / 'policy.json').write_bytes(text)
        (self.path / 'policy.safetensors').write_bytes(tensors)

    def load(self) -> None:
        policy = load_policy('latest', self._versions)
        if policy.observation == 'state':
            policy.reset()
            keys = fields_of('state', policy.haptics)
            action = policy.act({k: v for k, v in self._observation.items() if k in keys})
            assert action.shape == (5,)


_ZSTD = b'\x28\xb5\x2f\xfd'


class StoredReplay(Target):
    """Files of replay, damaged before it is opened or while it is."""

    errors = (ReplayError,)
    observation = 'state'

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.bag = lean_episode(folder / 'bags', 7, 6, self.observation)
        seed = Replay(folder / 'seed', self.observation)
        seed.sync(self.bag.parent)
        self._seed, self.path = folder / 'seed', folder / 'replay'
        self.named = str(self.path)

    def make(self, rng: random.Random) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self._seed, self.path)
        self._open = Replay(self.path, self.observation) if rng.random() < 0.5 else None
        victim = self.path / rng.choice(('format.json', 'episodes.jsonl', 'episodes.jsonl', 'steps.bin', 'images.bin'))
        data = victim.read_bytes()
        if victim.suffix == '.json' and rng.random() < 0.5:
            data = text_of(rng, mutate_tree(rng, json.loads(data)), 'json')
        elif victim.suffix == '.jsonl' and rng.random() < 0.5:
            data = text_of(rng, mutate_tree(rng, json.loads(data)), 'json').replace(b'\n', b' ') + b'\n'
        else:
            data = mutate_bytes(rng, data, times=rng.choice((1, 4)))
        # as another program or the disk would: in a new file, so that what is mapped keeps its pages
        victim.unlink()
        victim.write_bytes(data)

    def load(self) -> None:
        replay = self._open or Replay(self.path, self.observation)
        replay.sync(self.bag.parent)
        rng = np.random.default_rng(0)
        for _ in range(2):
            batch = replay.sample(rng, 4, 3, 0.99)
        assert batch.action.shape == (4, 5)


class StoredImages(StoredReplay):
    """The same with images."""

    observation = 'pixels'

    def make(self, rng: random.Random) -> None:
        super().make(rng)
        if rng.random() < 0.6:
            # the heads of the images: magic, sizes, kinds of blocks
            blob = self.path / 'images.bin'
            data, at = bytearray(blob.read_bytes()), 0
            for _ in range(rng.choice((1, 3, 20))):
                at = data.find(_ZSTD, rng.randrange(len(data) + 1)) + rng.choice((0, 4, 4, 5, 6, 9, 12))
                if at > 12:
                    data[at:at + 4] = rng.choice((b'\x00\x00\x75\x30', b'\xff\xff\xff\xff', b'\0\0\0\0', rng.randbytes(4)))
            blob.unlink()
            blob.write_bytes(data)


TARGETS = {'checkpoint': Checkpoint, 'policy-version': Policy, 'replay': StoredReplay, 'replay-images': StoredImages}

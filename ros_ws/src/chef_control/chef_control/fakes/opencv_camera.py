# SPDX-License-Identifier: Apache-2.0
"""A network camera without the hardware: a stream of JPEGs over HTTP, as many of them serve, of a simulated world."""

from __future__ import annotations

import argparse
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from chef_control.fakes.plan import Context, Fake
from chef_control.fakes.world_pictures import play

_BOUNDARY = 'picture'


class JpegStream:
    """Serves pictures at `url` to whoever asks, from the next one on. `pause`: set it to fall silent but stay there."""

    def __init__(self, port: int = 0):
        self._news, self._data, self._count = threading.Condition(), b'', 0
        self._closing = False
        self.pause = False
        self._server = ThreadingHTTPServer(('127.0.0.1', port), self._handler())
        self._server.daemon_threads = True
        self.url = f'http://127.0.0.1:{self._server.server_port}/stream.mjpg'
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name='jpeg stream', daemon=True)
        self._thread.start()

    def show(self, image: np.ndarray | None) -> None:
        """The next picture, [H, W, 3] RGB; None: what is no picture."""
        if image is None:
            data = os.urandom(4000)
        else:
            good, jpeg = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
            assert good
            data = jpeg.tobytes()
        with self._news:
            self._data, self._count = data, self._count + 1
            self._news.notify_all()

    def _handler(stream):  # noqa: N805  (the handler has a self of its own)
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header('Content-Type', f'multipart/x-mixed-replace; boundary={_BOUNDARY}')
                self.end_headers()
                count = 0
                try:
                    while True:
                        with stream._news:
                            stream._news.wait_for(lambda: stream._closing or stream._count > count and not stream.pause)
                            if stream._closing:
                                return
                            data, count = stream._data, stream._count
                        self.wfile.write(f'--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n'
                                         f'Content-Length: {len(data)}\r\n\r\n'.encode() + data + b'\r\n')
                except OSError:
                    pass    # whoever asked has left

            def log_message(self, *args):
                pass

        return Handler

    def close(self) -> None:
        with self._news:
            self._closing = True
            self._news.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5.0)


def fake(entry: dict, context: Context) -> Fake:
    """A process that renders the world and serves the pictures."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    source = f'http://127.0.0.1:{port}/stream.mjpg'
    dropped = ('crop', 'exposure_us', 'gain', 'fourcc', 'width', 'height', 'serial', 'stamps', 'loop')
    # it shares the processor with the whole cell
    device = {**{k: v for k, v in entry.items() if k not in dropped}, 'source': source, 'timeout_s': 5.0}
    words = (__name__, '--port', str(port), '--world', context.world_socket, '--camera', context.name)
    return Fake(device, words)


@contextmanager
def _screen(args: argparse.Namespace) -> Iterator[Callable[[np.ndarray | None], None]]:
    stream = JpegStream(args.port)
    try:
        yield stream.show
    finally:
        stream.close()


def main(argv: list[str] | None = None) -> None:
    """Plays a network camera until it is interrupted or its world ends."""
    parser = argparse.ArgumentParser(prog='python -m chef_control.fakes.opencv_camera', description=main.__doc__)
    parser.add_argument('--port', required=True, type=int, help='where it serves, on this machine only')
    play(parser, argv, 'a network camera', _screen)


if __name__ == '__main__':
    main()

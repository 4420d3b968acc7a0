# SPDX-License-Identifier: Apache-2.0
"""Processes that are measured in turns: each answers requests, one line of JSON each, of who started it.

Nothing but Python's own library: contestants run in environments of their own.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


class ComparisonError(Exception):
    """A contestant failed, or what it does is not what the others do; the text is one line."""


@dataclass
class Process:
    """One contestant's process.

    Args:
      name: for messages.
      command: the words that start it.
      env: its variables.
      quiet: what it prints is only told where it ends too early, the last line of it.

    Raises:
      ComparisonError: by `ask` and `receive`: it failed, ended, or answered something else than a line of JSON in time.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] | None = None
    quiet: bool = False
    _process: subprocess.Popen = field(init=False, repr=False)
    _asked: str = field(init=False, repr=False, default='')

    def __post_init__(self):
        self._said = tempfile.TemporaryFile('w+') if self.quiet else None
        self._process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._said, text=True)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, timeout_s: float = 900.0, **request) -> dict:
        """The answer to a request, see `serve`."""
        self.send(**request)
        return self.receive(timeout_s)

    def send(self, **request) -> None:
        """A request whose answer is received later."""
        self._asked = request['do']
        try:
            self._process.stdin.write(json.dumps(request) + '\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            pass    # told by `receive`, with its status

    def receive(self, timeout_s: float = 900.0) -> dict:
        # one answer a request: nothing is buffered behind the line that is waited for
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise ComparisonError(f'{self.name}: no answer to {self._asked!r} within {timeout_s:.0f} s')
        line = self._process.stdout.readline()
        if not line:
            raise ComparisonError(f'{self.name}: ended with status {self._process.wait()} at {self._asked!r}{self._last_words()}')
        return parse(self.name, line)


    def _last_words(self) -> str:
        if self._said is None:
            return ''
        self._said.seek(0)
        errors = [line.strip() for line in self._said if 'Error' in line.split(':')[0]]
        return f': {errors[-1]}' if errors else ''


def parse(name: str, line: str) -> dict:
    """An answer; ComparisonError if it tells of a failure or is none."""
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ComparisonError(f'{name}: answered {line.strip()[:80]!r}, which is no answer')
    if 'error' in value:
        raise ComparisonError(f'{name}: {value["error"]}')
    return value


def serve(answer: Callable[[dict], dict]) -> int:
    """Answers the requests on the standard input until it is closed; what else is printed goes to the standard error."""
    # descriptor 1 is for answers alone
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            text = json.dumps(answer(json.loads(line)))
        except Exception as e:      # whatever a library raises is told to who asked
            text = json.dumps({'error': f'{type(e).__name__}: {e}'.splitlines()[0]})
        answers.write(text + '\n')
    return 0

# SPDX-License-Identifier: Apache-2.0
"""Errors of one line: what damaged files hold may be quoted in them, but not at any length."""

from __future__ import annotations

_LONGEST = 800     # characters


def one_line(text: object, longest: int = _LONGEST) -> str:
    """The text on one line, cut where it is too long."""
    text = ' '.join(str(text).split())
    return text if len(text) <= longest else text[:longest - 4] + ' ...'


class OneLineError(Exception):
    """The base of this project's errors; the text is one line that names the file and the cause."""

    def __init__(self, text: object):
        super().__init__(one_line(text))

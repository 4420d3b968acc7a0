# SPDX-License-Identifier: Apache-2.0
"""The one error of this package."""

from __future__ import annotations


class BagError(Exception):
    """A bag cannot be written or read; the text is one line that names the bag and the cause."""

    def __init__(self, text: object):
        super().__init__(' '.join(str(text).split()))

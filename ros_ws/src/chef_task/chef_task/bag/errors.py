# SPDX-License-Identifier: Apache-2.0
"""The one error of this package."""

from __future__ import annotations

from chef_task.errors import OneLineError


class BagError(OneLineError):
    """A bag cannot be written or read; the text is one line that names the bag and the cause."""

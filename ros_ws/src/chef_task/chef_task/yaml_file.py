# SPDX-License-Identifier: Apache-2.0
"""Configuration files: reading YAML that may be wrong in any way, and what all checks of its values share."""

from __future__ import annotations

import reprlib
import sys
from pathlib import Path
from typing import Any

import yaml

from chef_task.errors import one_line

_LARGEST_MERGE = 10_000     # keys
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.maxlevel = 3


class Loader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):
    """Safe, also from merge keys that double in every line, which PyYAML before 6.0.4 follows."""

    def flatten_mapping(self, node):
        super().flatten_mapping(node)
        if len(node.value) > _LARGEST_MERGE:
            raise yaml.constructor.ConstructorError(None, None, 'merge keys make it too large', node.start_mark)


def load(path: str | Path) -> Any:
    """What the file holds; ValueError, one line, naming the file."""
    try:
        return yaml.load(Path(path).read_text(encoding='utf-8'), Loader)
    except OSError as e:
        raise ValueError(f'{path}: cannot be read: {e.strerror}') from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as e:
        raise ValueError(f'{path}: not YAML: {one_line(e)}') from None


def is_number(value: Any) -> bool:
    """Whether it is a finite number; true and false are none, nor what no float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def short(value: Any) -> str:
    """A value in an error: any object, however large or nested, on one short line."""
    try:
        text = _REPR.repr(value)
    except ValueError:      # a number with more digits than Python prints
        return 'a huge number'
    return text if len(text) <= 80 else text[:77] + '...'

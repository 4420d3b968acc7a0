# SPDX-License-Identifier: Apache-2.0
"""Configuration files that are wrong in ways that no honest editor makes: one line, at once, in little memory."""

import pytest

from chef_task.cell import CellConfig
from chef_task.limits import Limits
from chef_task.yaml_file import is_number, load, short

BOMBS = {
    'deep': '[' * 5000 + ']' * 5000,
    'digits': '9' * 6000,
    'not a date': '2001-13-45',
    'not UTF-8': b'\xff\xfe\xfd',
    'unclosed': '{a: [1',
}


@pytest.mark.parametrize('content', BOMBS.values(), ids=list(BOMBS))
def test_what_cannot_be_read_is_one_line_with_the_file(tmp_path, content):
    path = tmp_path / 'cell.yaml'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match='cell.yaml: not YAML: ') as error:
        load(path)
    assert '\n' not in str(error.value) and len(str(error.value)) < 1000


def test_merge_keys_do_not_double(tmp_path):
    """40 lines that would make 2^40 keys."""
    path = tmp_path / 'cell.yaml'
    path.write_text('- &m0 {k0: 1}\n' + ''.join(
        f'- &m{i + 1} {{<<: [*m{i}, *m{i}], k{i + 1}: 1}}\n' for i in range(40)))
    try:
        assert len(load(path)[-1]) == 41        # PyYAML 6.0.4 leaves repeated ones out
    except ValueError as e:
        assert 'merge keys' in str(e)


def test_a_value_of_shared_parts_is_shown_short(tmp_path):
    """Small in memory, but written out it has 2^40 items."""
    path = tmp_path / 'x.yaml'
    path.write_text('- &a0 [1, 1]\n' + ''.join(f'- &a{i + 1} [*a{i}, *a{i}]\n' for i in range(40)))
    assert len(short(load(path))) <= 80
    path.write_text(f'kind: simulated\nurdf: x\nhome_rad: {"[" * 300 + "]" * 300}\n')
    with pytest.raises(ValueError, match='home_rad must hold 7 numbers'):
        CellConfig.load(path)


@pytest.mark.parametrize('value', [True, None, 'x', float('nan'), float('inf'), 10**400, [1]])
def test_what_is_no_number(value):
    assert not is_number(value)
    for limits in ({'workspace_centre_m': [0, 0, value]}, {'joint_margin_rad': value}, {'force_n': value},
                   {'sensor_age_s': {'wrench': value}}):
        with pytest.raises(ValueError, match='^limits: '):
            Limits.from_dict(limits)

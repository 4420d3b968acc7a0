# SPDX-License-Identifier: Apache-2.0
"""The recorder's parameter for topics of a lab's own."""

import pytest

from chef_control.node import ConfigError
from chef_control.nodes.recorder import extra_topics


def test_names_with_types():
    assert extra_topics('') == {}
    assert extra_topics('wide/image sensor_msgs/msg/Image, /lab/x  std_msgs/msg/String,') == {
        'wide/image': ('sensor_msgs/msg/Image', 'extra'), '/lab/x': ('std_msgs/msg/String', 'extra')}


@pytest.mark.parametrize('text', ['wide/image', 'x sensor_msgs/msg/Nothing', 'x nowhere/msg/Image', 'x Image',
                                  'x sensor_msgs/srv/../Image'])
def test_what_cannot_be_recorded_is_named(text):
    with pytest.raises(ConfigError, match='extra_topics'):
        extra_topics(text)

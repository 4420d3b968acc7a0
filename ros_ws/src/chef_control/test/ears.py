# SPDX-License-Identifier: Apache-2.0
"""What a device told, for tests that wait until it has told something."""

import dataclasses
import threading
import time


class Ears:
    """Keeps samples and the lines of a loss; a device's on_batch is `heard`, its on_lost is `gone`."""

    WAIT_S = 30.0

    def __init__(self):
        self.samples, self.lost = [], []

    def heard(self, samples):
        self.samples += samples

    def gone(self, text):
        self.lost.append(text)

    def until(self, condition):
        """Of whatever: it is asked again and again."""
        end = time.monotonic() + self.WAIT_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)


class SerialCell(Ears):
    """A fake on a serial line and the device that speaks to it; `until` is woken by what the device tells."""

    DEVICE = None
    WAIT_S = 10.0

    def __init__(self, fake, settings):
        super().__init__()
        self.fake, self.settings, self.device = fake, settings, None
        self.news = threading.Condition()

    def open(self):
        self.device = self.DEVICE(self.settings, self.heard, self.gone)
        return self.device

    def heard(self, samples):
        with self.news:
            super().heard(samples)
            self.news.notify_all()

    def gone(self, text):
        with self.news:
            super().gone(text)
            self.news.notify_all()

    def until(self, condition) -> None:
        with self.news:
            assert self.news.wait_for(condition, self.WAIT_S)

    def impatient(self) -> None:
        """From now on a silent device is soon a lost one."""
        self.device._s = dataclasses.replace(self.settings, lost_s=0.1)
        self.device._modbus._client.comm_params.timeout_connect = 0.05

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.device:
            self.device.close()
        self.fake.close()

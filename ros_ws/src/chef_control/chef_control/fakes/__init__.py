# SPDX-License-Identifier: Apache-2.0
"""Counterparts of a real cell's devices that speak their protocols, for tests and cells without hardware."""

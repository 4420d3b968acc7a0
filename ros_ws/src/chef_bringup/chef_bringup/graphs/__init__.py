# SPDX-License-Identifier: Apache-2.0
"""The graphs, one module each."""

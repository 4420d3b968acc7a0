# SPDX-License-Identifier: Apache-2.0
"""What `./chef bench fuzz` fuzzes: valid inputs of our own writers, and how they are mutated."""

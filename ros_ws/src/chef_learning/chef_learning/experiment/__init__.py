# SPDX-License-Identifier: Apache-2.0
"""The four stages of the paper as one folder: COLLECT, HYPERPARAMETER EXPLORATION, EXECUTE, FINE-TUNE."""

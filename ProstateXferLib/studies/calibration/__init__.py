# SPDX-License-Identifier: Apache-2.0
"""Temperatures for a checkpoint's probabilities, from cases that it was not trained on."""

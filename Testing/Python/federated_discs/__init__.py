# SPDX-License-Identifier: Apache-2.0
"""Federated rounds in miniature: sites with images of bright discs, and what they train."""

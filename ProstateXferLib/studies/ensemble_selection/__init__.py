# SPDX-License-Identifier: Apache-2.0
"""Members and weights of an ensemble from predictions of cases that no candidate was trained on (docs/ensembles.md)."""

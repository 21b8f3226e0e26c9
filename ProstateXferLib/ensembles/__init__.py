# SPDX-License-Identifier: Apache-2.0
"""Which candidates make an ensemble, and with what weights: numbers of cross-validated cases in, members out."""

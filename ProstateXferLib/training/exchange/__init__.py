# SPDX-License-Identifier: Apache-2.0
"""Weights packages: trained weights, and what must be known about them, travel between centres; images do not."""

# SPDX-License-Identifier: Apache-2.0
"""Data sets: one adapter a published layout, integrity checks, splits by patient."""

# SPDX-License-Identifier: Apache-2.0
"""The version, written once: the package metadata, checkpoints and reports read it from here."""

__version__ = "0.1.0"

# SPDX-License-Identifier: Apache-2.0
"""Model cards, the one-file checkpoint format, importers of foreign files, and the registry of known models."""

# SPDX-License-Identifier: Apache-2.0
"""What training reads again and again, worked out once and kept on disk: prepared cases and frozen-encoder tokens."""

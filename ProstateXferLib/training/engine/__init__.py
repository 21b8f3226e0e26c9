# SPDX-License-Identifier: Apache-2.0
"""The one training loop: it knows tasks and recipes, and no paper."""

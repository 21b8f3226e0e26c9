# SPDX-License-Identifier: Apache-2.0
"""Recipes: what a YAML file may say about a chain of training stages, and how it is read."""

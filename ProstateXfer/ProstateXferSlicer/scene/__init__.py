# SPDX-License-Identifier: Apache-2.0
"""MRML in and out: nodes become images and files, files and measurements become nodes. No Qt."""

# SPDX-License-Identifier: Apache-2.0
"""Lesion detection of several models side by side, in the figures of the SAP paper."""

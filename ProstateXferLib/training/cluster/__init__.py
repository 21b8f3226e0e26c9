# SPDX-License-Identifier: Apache-2.0
"""Training on a cluster: jobs for SLURM through submitit."""

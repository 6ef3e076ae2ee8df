"""The journal: files that record each trial, written first and read by everything else."""

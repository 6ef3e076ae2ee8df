"""Optuna: the study in memory, its sampler and pruner, and the view of it in a database."""

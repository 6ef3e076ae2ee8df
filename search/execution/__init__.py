"""Running trials: the coordinator, the workers and what they are given."""

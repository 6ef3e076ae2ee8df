"""A study: its settings, files, locks and URLs."""

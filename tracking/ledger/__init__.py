"""The ledger: every evaluation on a test split."""

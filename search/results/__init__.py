"""What a search comes to: the chosen model, its test, and what is published of it."""

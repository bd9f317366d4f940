"""A run: request, pass over the pictures (here or on a Ray cluster), sums, saved state, result rows."""

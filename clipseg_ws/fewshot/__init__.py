"""Examples: supports, the bank that keeps them encoded, the matcher that compares a query with it."""

"""Pictures on their way in: sources, reading, sizes and windows, loading ahead."""

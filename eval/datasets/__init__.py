"""Data sets and episodes: readers of official layouts, and their registry."""

"""Folders and data sets: jobs, resuming, engines, tracking, pseudo masks, training on them."""

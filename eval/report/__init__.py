"""Reports: pages, plots, published numbers."""

"""Results on their way out: palette, files, formats, review page."""

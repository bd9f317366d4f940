"""Other people's tools, thinly: each file speaks to one of them, imports it on its own, and calls the ``Segmenter``."""

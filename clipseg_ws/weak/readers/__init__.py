"""Readers of label files, one file a form; ``TAG_FORMATS`` and ``MARK_FORMATS`` of ``clipseg_ws.weak`` list them."""

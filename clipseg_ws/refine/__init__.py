"""Refinement of maps: on the patch grid by attention, on the picture by its colours."""

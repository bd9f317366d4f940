"""Experiments whose rows stand in eval/results."""

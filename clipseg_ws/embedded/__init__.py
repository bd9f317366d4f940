"""Embedded models: weights, cards, how they were trained."""

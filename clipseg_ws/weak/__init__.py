"""Weak labels: tags, marks (boxes, points, scribbles), and the constraints that they are for an answer."""

"""Scores of segmenters on episode plans, and the published figures to compare them with."""

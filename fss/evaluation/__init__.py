"""Evaluation: figures with intervals, baselines beside every model, and the table that shows them."""

"""Evaluation: metrics with confidence intervals, baselines for comparison, and reports of both."""

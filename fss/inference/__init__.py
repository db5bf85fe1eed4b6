"""Predictions from a trained segmenter: inputs, predictor, exported programs, the served model."""

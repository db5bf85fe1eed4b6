"""Use a trained segmenter: read inputs, predict, export programs, serve with MLflow."""

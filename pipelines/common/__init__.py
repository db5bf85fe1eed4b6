"""What the pipelines share: the Ray session, the part driver, the MLflow runs and the summary."""

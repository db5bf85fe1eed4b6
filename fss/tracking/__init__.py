"""MLflow runs and the lineage of collections, masks and models."""

"""The parts of ``pipelines.train``."""

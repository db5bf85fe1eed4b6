"""The parts of ``pipelines.reproduce``."""

"""The parts of ``pipelines.evaluate``."""

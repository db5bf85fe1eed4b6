"""The parts of ``pipelines.tune``."""

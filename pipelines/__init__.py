"""The jobs: each file is one pipeline on Ray, a thin ``main`` over a ``run(config)`` that other jobs and tests call."""

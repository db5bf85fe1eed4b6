"""Training of few-shot segmenters: episode streams, the loop, validation."""

"""Annotation files of other programs: one module per format, each with a writer and a reader."""

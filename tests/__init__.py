"""Tests of fss and pipelines."""

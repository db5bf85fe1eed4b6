"""Layers that several learners share."""

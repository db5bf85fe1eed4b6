"""Helpers of the infrastructure tests."""

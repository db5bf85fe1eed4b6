"""Learners, the networks that compare query and supports: MaskSplit, HSNet, ASNet, VAT and density."""

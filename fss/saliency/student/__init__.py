"""A saliency network that learns from pseudo-masks: its data, targets and masks (see fss.training.student)."""

"""A saliency network that learns from pseudo-masks, and its training."""

"""Training: reading order, losses, moving average and schedules, and the training of each kind of network."""

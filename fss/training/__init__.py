"""Training: streams of episodes, the loop, the losses and the moving average."""

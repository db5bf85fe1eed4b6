"""What every package builds on: configuration, storage, retries, random draws, exit codes. No torch."""

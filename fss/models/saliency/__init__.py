"""The saliency student: its network, its configuration and its files."""

"""Settings and reports that the mask-making jobs share."""

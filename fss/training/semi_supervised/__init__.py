"""Training of semantic networks from few labels, in three stages."""

"""Episodes: a query picture, support pictures with masks, and how they are made of masks and drawn."""

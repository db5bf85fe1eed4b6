"""Training of semantic networks from few labels, by the three-stage framework of Ke et al., IEEE TIP 2022."""

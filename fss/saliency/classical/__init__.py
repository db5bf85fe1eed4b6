"""The classical saliency estimator: contrast and boundary cues on superpixels, refined along image edges."""

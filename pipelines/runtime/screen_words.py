"""Words for the table of a job's result: what each number counts, for people who do not know the project.

``summary.json`` and MLflow keep the short names; only the screen shows these words.
"""

import re

LABELS = {
    "quarantined": "unusable",
    "first of the quarantined": "first unusable photographs",
    "kept step": "step of the kept model",
    "served model": "model in MLflow",
    "accepted": "accepted masks",
    "rejected by a gate": "rejected by a check",
    "protocol": "choice of episodes",
    "parts kept": "parts found finished",
    "key": "key (equal keys: the same job)",
    "area shift of the accepted": "areas: accepted against all (0 equal, 1 disjoint)",
    "position shift of the accepted": "positions: accepted against all (0 equal, 1 disjoint)",
    "held_out": "held out",
    "no_mask": "no mask",
    "not_accepted": "not accepted",
    "too_small": "too small",
}
"""Names that the screen replaces."""

COUNTS = {
    "photographs": "photographs in the source",
    "images": "images",
    "usable": "photographs that can be read",
    "quarantined": "photographs that cannot be used; each has its reason",
    "masks": "photographs with a mask",
    "classes": "classes",
    "classes left out": "classes with too few images for an episode",
    "accepted": "masks that the training uses: they pass all checks and rank high enough",
    "accepted masks": "masks that the training uses: they pass all checks and rank high enough",
    "accepted pseudo-masks": "masks that the training uses: they pass all checks and rank high enough",
    "rejected by a gate": "masks that fail a check, such as on size or contrast",
    "rejected by rank": "masks that pass all checks but rank too low in quality",
    "parts": "files, each made as a whole by one process",
    "largest part": "images",
    "images at most": "images",
    "parts made": "files of images or masks, written by this run",
    "parts kept": "files that an earlier run had finished",
    "steps": "steps of the optimiser",
    "training steps": "steps of the optimiser",
    "kept step": "is the step whose model validated best, which is the one that was saved",
    "train": "images to train on",
    "held_out": "images held out for validation",
    "no_mask": "images without a mask, not trained on",
    "not_accepted": "images whose mask was not accepted, not trained on",
    "too_small": "images whose object is too small to be split, not trained on",
    "pictures with a feature": "images that are compared with others",
    "pictures in the bank": "images with an accepted mask, which supports are taken from",
    "labelled": "labelled images",
    "pool": "images without labels",
    "stable pictures": "images whose mask hardly changed while the teacher trained",
    "trusted at first": "images whose first mask the training started from",
    "rounds": "rounds of training on new masks",
    "epochs": "passes over the images",
    "episodes": "episodes: a query and its supports each",
    "evaluation episodes": "episodes: a query and its supports each",
    "backbone passes": "images computed by the backbone; features of repeated images are reused",
    "trials": "trials of settings",
    "completed": "trials that ran to their last step",
    "pruned": "trials that were stopped early, because others did better",
    "verified": "claims that were reached",
    "short": "claims that were not reached",
    "measured": "results without a published value",
    "not run": "claims that miss an input or were not selected",
}
"""What a number counts, by its name or by the end of its name."""

PREFIXED = {
    "quarantined": "photographs",
    "without a mask": "photographs",
    "no mask": "images",
    "ignored": "files of the source that are not read",
}
"""What a number counts, by the part of its name before a colon, which a reason follows."""


def label(key: str) -> str:
    """Return the name of a value for the screen."""
    *before, last = key.split(": ")
    if before and before[-1] in PREFIXED:
        return ": ".join([LABELS.get(before[-1], before[-1]), last])
    return ": ".join([*before, LABELS.get(last, last)])


def counted(key: str) -> str:
    """Return what the number of a name counts, or an empty text."""
    *before, last = key.split(": ")
    if before and before[-1] in PREFIXED:
        return PREFIXED[before[-1]]
    return COUNTS.get(re.sub(r"^\d+-shot ", "", last), "")

"""Push a trained segmenter to the Hugging Face Hub, with a model card that is written from its run.

    fss push runs/masksplit hf://user/birds
    fss push birds@best hf://user/birds@v2 --public

Log in first: hf auth login. Only safetensors, JSON and README.md are pushed. The card names data, settings, metrics and
limits; fill in the licence yourself. A README.md that the repository has already is kept.
fss.load_segmenter("hf://user/birds") and fss predict --model hf://user/birds load the model.
"""

import tyro

from fss.core.config import settings
from fss.core.exit_codes import SUCCESS


@settings
class Config:
    """The arguments of ``fss push``."""

    model: tyro.conf.Positional[str]
    """Trained segmenter: its folder, an s3:// or MLflow URI, or a registered model's name."""
    uri: tyro.conf.Positional[str]
    """Repository to push to: hf://USER/NAME, or hf://USER/NAME@BRANCH."""
    public: bool = False
    """Make a new repository public; without this flag it is private."""
    tracking: str | None = None
    """MLflow's store with the run of the model. None: MLFLOW_TRACKING_URI, or the store in this directory."""


def run(config: Config) -> int:
    """Push the model and return the exit code.

    Raises:
        ValueError: there is no such model, or the Hub refuses it.
    """
    from fss.cli._make_masks import print_table
    from fss.inference.hub import push_to_hub

    address = push_to_hub(config.model, config.uri, private=not config.public, tracking=config.tracking)
    rows = [("pushed", f"{config.model} to {config.uri}"), ("commit", address)]
    print_table(iter([*rows, ("to do", "fill in the licence in the README.md of the repository")]))
    return SUCCESS

"""What tells a run from others of its job: the names of its data and network, and its amount of work.

The name of a run consists of them, for example ``train birds resnet50 1000 steps (3f2a81)``. The last part is the start
of the job's key, so runs with different settings or data have different names. Data, backbone and learner are also tags
to filter by.
"""

from dataclasses import dataclass

_TIMM = "timm:"


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels of a run; empty ones are left out."""

    data: str = ""
    """Name of the collection."""
    result: str = ""
    """Name of what the job makes, such as a mask set."""
    backbone: str = ""
    """Name of the backbone."""
    learner: str = ""
    """Name of the network's head."""
    amount: str = ""
    """Amount of work, such as ``1000 steps``."""

    def run_name(self, title: str, key: str) -> str:
        """Return the name of a run; without labels it is the title."""
        words = [self.data, self.result, self.backbone.removeprefix(_TIMM), self.amount]
        told = [word for word in words if word]
        return " ".join([title, *told, f"({key[:6]})"]) if told else title

    def tags(self) -> dict[str, str]:
        """Return the tags of a run."""
        named = {"data": self.data, "backbone": self.backbone, "learner": self.learner}
        return {f"fss.{name}": value for name, value in named.items() if value}

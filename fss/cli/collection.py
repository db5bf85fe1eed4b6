"""Maintain a collection: bring it to the current format, or its manifests up to date.

fss collection upgrade photos
fss collection manifest s3://bucket/photos

A collection of an older format opens and resumes as it is. An upgrade divides its parts into row groups, so that a
training reads only what it needs, and moves all other files out of the folders of parts. It may be stopped and
repeated. Manifests hold the small columns of all parts, so that jobs start without reading every part. Jobs write them;
write them again after a collection was copied.
"""

from typing import Annotated

import tyro

from fss.core.config import settings
from fss.core.exit_codes import SUCCESS


@settings
class Upgrade:
    """Bring a collection to the current format, in place."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""

    def run(self) -> int:
        """Upgrade the collection and return the exit code."""
        from fss.cli._make_masks import print_table
        from fss.collection import Collection
        from fss.collection.collection import FORMAT
        from fss.collection.upgrade import upgrade_collection

        done = upgrade_collection(Collection.open(self.collection))
        rows = [
            ("format", f"{FORMAT} (was {done.format})" if done.format != FORMAT else f"{FORMAT}, as before"),
            ("parts written again", str(done.rewritten)),
            ("mask sets moved", str(done.moved)),
        ]
        print_table(iter(rows))
        return SUCCESS


@settings
class Manifest:
    """Bring the manifests of the images and all mask sets up to date."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""

    def run(self) -> int:
        """Write the manifests and return the exit code."""
        from fss.cli._make_masks import print_table
        from fss.collection import Collection
        from fss.collection.upgrade import refresh_manifests

        count = refresh_manifests(Collection.open(self.collection))
        print_table(iter([("parts added", f"{count} that were missing or had changed")]))
        return SUCCESS


Config = Annotated[Upgrade, tyro.conf.subcommand("upgrade")] | Annotated[Manifest, tyro.conf.subcommand("manifest")]


def run(config: Upgrade | Manifest) -> int:
    """Run the subcommand and return the exit code.

    Raises:
        ValueError: the collection does not exist, or a part is damaged.
    """
    return config.run()

"""Maintain a collection: its format, its manifests, and photographs that repeat others.

    fss collection upgrade photos
    fss collection manifest s3://bucket/photos
    fss collection duplicates photos
    fss collection duplicates photos --distinct-from evaluation --drop-duplicates

A collection of an older format opens and resumes as it is. An upgrade divides its parts into row groups, so that a
training reads only what it needs, and moves all other files out of the folders of parts. It may be stopped and
repeated. Manifests hold the small columns of all parts, so that jobs start without reading every part. Jobs write them;
write them again after a collection was copied. Duplicates are found by perceptual hashes, which an ingest stores.
"""

from typing import Annotated

import tyro
from annotated_types import Interval

from fss.collection.config import DUPLICATE_DISTANCE, MOST_DUPLICATE_DISTANCE
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
        from fss.collection.collection_file import FORMAT
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


@settings
class Duplicates:
    """List photographs that nearly repeat an earlier one: scaled, compressed, turned or mirrored copies."""

    collection: tyro.conf.Positional[str]
    """The collection: local folder or s3:// URI."""
    distinct_from: tuple[str, ...] = ()
    """Collections whose photographs must not be repeated, such as that of the evaluation."""
    duplicate_distance: Annotated[int, Interval(ge=0, le=MOST_DUPLICATE_DISTANCE)] = DUPLICATE_DISTANCE
    """Largest number of bits, of 64, in which the perceptual hashes of near-duplicates differ."""
    drop_duplicates: bool = False
    """Mark them as unusable, which is possible until masks other than the ground truth are made of their parts."""

    def run(self) -> int:
        """List the groups, one photograph a line, and return the exit code."""
        from fss.collection import Collection
        from fss.collection.duplicates import drop_duplicates, find_duplicates

        collection = Collection.open(self.collection)
        others = [Collection.open(uri) for uri in self.distinct_from]
        duplicates = find_duplicates(collection, distance=self.duplicate_distance, distinct_from=others)
        groups: dict[str, list[str]] = {}
        for each in duplicates:
            groups.setdefault(each.original, []).append(f"{each.distance:3} bits  {each.uri}")
        for original, lines in groups.items():
            print(original, *lines, sep="\n  ")
        if self.drop_duplicates:
            drop_duplicates(collection, duplicates)
        photographs = sum(map(len, collection.image_ids().values()))
        marked = "; they are marked as unusable, and no job uses them" if self.drop_duplicates and duplicates else ""
        found = f"{len(duplicates)} of {photographs} photographs nearly repeat {len(groups)} others"
        if not duplicates:
            found = f"none of the {photographs} photographs nearly repeats another"
        print(f"{found} (at most {self.duplicate_distance} bits differ){marked}")
        return SUCCESS


Config = (
    Annotated[Upgrade, tyro.conf.subcommand("upgrade")]
    | Annotated[Manifest, tyro.conf.subcommand("manifest")]
    | Annotated[Duplicates, tyro.conf.subcommand("duplicates")]
)


def run(config: Upgrade | Manifest | Duplicates) -> int:
    """Run the subcommand and return the exit code.

    Raises:
        ValueError: the collection does not exist, or a part is damaged.
    """
    return config.run()

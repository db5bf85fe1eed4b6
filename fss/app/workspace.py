"""What all tabs of a running page share."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cachetools import LRUCache

from fss.app.photographs import Photographs
from fss.app.session import Answer, Search, Session
from fss.collection import Collection
from fss.collection.collection_file import collection_exists
from fss.core import storage
from fss.inference.predictor import Predictor
from fss.inference.request_limits import RequestLimits

_SESSIONS = 16  # tabs whose work is kept


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Photographs, model and collection of a running page, and the work of each tab."""

    photographs: Photographs
    """The photographs."""
    predictor: Predictor
    """The segmenter."""
    model: str
    """What the segmenter is, in words."""
    limits: RequestLimits
    """Limits of a search."""
    collection: str | None
    """Collection for mask sets; None: masks are only exported."""
    opened: Mapping[int, Answer] = field(default_factory=dict)
    """Masks of a mask set that each tab begins with."""
    mask_set: str = ""
    """Name of that mask set; empty if none was opened."""
    label: str = "object"
    """Name of the object at first."""
    worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="search"))
    """Runs one search after the other: each takes all cores."""
    searches: list[Search] = field(default_factory=list)
    """Searches that run or wait."""
    sessions: LRUCache[str, Session] = field(default_factory=lambda: LRUCache(_SESSIONS))
    """Work by the id of a tab, so that it outlives a reload."""

    def session(self, tab: str) -> Session:
        """Return the work of a tab, which is empty at first."""
        if tab not in self.sessions:
            self.sessions[tab] = Session(self.photographs, self.predictor, self.limits, opened=self.opened)
        return self.sessions[tab]

    def end(self) -> None:
        """Stop the searches after their current photographs, since the program waits for the thread at its end."""
        for search in self.searches:
            search.stop.set()
        self.worker.shutdown(wait=False, cancel_futures=True)

    def open_collection(self) -> Collection | None:
        """Return the collection; None if there is none yet."""
        if self.collection is None or not collection_exists(storage.absolute_uri(self.collection)):
            return None
        return Collection.open(self.collection)

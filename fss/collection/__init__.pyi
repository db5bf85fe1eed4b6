from .collection import Collection as Collection
from .index import ClassIndex as ClassIndex
from .index import Entry as Entry
from .index import ImageReader as ImageReader
from .index import Sample as Sample
from .mask_set import TRUTH as TRUTH
from .mask_set import Acceptance as Acceptance
from .mask_set import MaskSet as MaskSet

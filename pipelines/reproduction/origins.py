"""Where the inputs of published claims come from: official pages, layouts, and numbers of files.

Pages are home pages, since links to single files change.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Page:
    """The official page of a data set, of checkpoints or of weights."""

    name: str
    """Title of the page."""
    url: str
    """Address of the page."""

    def __str__(self) -> str:
        """Return name and address."""
        return f"{self.name} ({self.url})"


@dataclass(frozen=True, kw_only=True)
class DataOrigin:
    """The download of a data set."""

    pages: tuple[Page, ...]
    """Official pages; several where the masks come from another page than the photographs."""
    kind: str
    """Kind of source of ``pipelines.ingest``."""
    folder: str
    """Folder of the unpacked download, for ``--source.path``."""
    layout: str
    """Layout of the folder, in words."""
    files: str
    """Number of files in the folder, in words."""
    images: dict[str | None, int]
    """Images with masks in a collection, by subset; the first subset is for tests, the second for trainings."""

    def subset(self, *, training: bool) -> str | None:
        """Return the subset for trainings or tests; None: one collection serves both."""
        subsets = list(self.images)
        return subsets[-1] if training else subsets[0]


DATA: dict[str, DataOrigin] = {
    "pascal": DataOrigin(
        pages=(
            Page(
                name="The PASCAL Visual Object Classes Challenge 2012",
                url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
            ),
            Page(
                name="Semantic Boundaries Dataset and Benchmark (SBD)",
                url="http://home.bharathh.info/pubs/codes/SBD/download.html",
            ),
        ),
        kind="voc",
        folder="VOCdevkit",
        layout="VOCdevkit/VOC2012 with JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/, and SBD's masks in "
        "VOC2012/SegmentationClassAug/ or benchmark_RELEASE/dataset/cls/",
        files="17,125 .jpg in JPEGImages/, 2,913 .png in SegmentationClass/, and 12,031 .png in SegmentationClassAug/ "
        "or 11,355 .mat in cls/",
        images={"val": 1_449, "trainaug": 10_582},
    ),
    "coco": DataOrigin(
        pages=(Page(name="COCO, Common Objects in Context", url="https://cocodataset.org/"),),
        kind="coco",
        folder="COCO2014",
        layout="COCO2014 with train2014/ and val2014/, and annotations/instances_{train,val}2014.json or the category "
        "PNGs annotations/{train,val}2014/",
        files="82,783 .jpg in train2014/, 40,504 .jpg in val2014/ and 2 .json in annotations/",
        images={"val2014": 40_504, "train2014": 82_783},
    ),
    "fss": DataOrigin(
        pages=(Page(name="FSS-1000, HKUSTCV on GitHub", url="https://github.com/HKUSTCV/FSS-1000"),),
        kind="fss1000",
        folder="FSS-1000",
        layout="FSS-1000 with <class>/{1..10}.jpg and .png",
        files="10,000 .jpg and 10,000 .png in 1,000 folders",
        images={None: 10_000},
    ),
}
"""Downloads of the benchmarks."""

_CHECKPOINTS = {
    "hsnet": Page(name="HSNet, juhongm999 on GitHub", url="https://github.com/juhongm999/hsnet"),
    "asnet": Page(name="ASNet in iFSL, dahyun-kang on GitHub", url="https://github.com/dahyun-kang/ifsl"),
    "vat": Page(
        name="VAT, Seokju-Cho on GitHub", url="https://github.com/Seokju-Cho/Volumetric-Aggregation-Transformer"
    ),
    "masksplit": Page(
        name="MaskSplit, AhmetSencan on GitHub",
        url="https://github.com/AhmetSencan/MaskSplit-Self-supervised-Meta-learning-for-Few-shot-Semantic-Segmentation",
    ),
}
_HYBRID = Page(name="Hybrid Masking, moonsh on GitHub", url="https://github.com/moonsh/HM-Hybrid-Masking-ECCV-2022")
_TORCHVISION = Page(name="Models and pre-trained weights of torchvision", url="https://pytorch.org/vision/")
_DEEP_STEM = Page(name="semseg, hszhao on GitHub", url="https://github.com/hszhao/semseg")
_TIMM = Page(name="timm on Hugging Face", url="https://huggingface.co/timm")


def checkpoint_page(learner: str, masking: str) -> Page:
    """Return the page of the authors who publish the checkpoints of a learner with a masking strategy."""
    return _HYBRID if masking == "hybrid" else _CHECKPOINTS[learner]


def weights_page(stem: str) -> Page:
    """Return the page of a backbone's weights by the stem of their file, such as resnet50."""
    if stem.startswith("timm-"):
        return _TIMM
    return _DEEP_STEM if stem.endswith("_deepstem") else _TORCHVISION

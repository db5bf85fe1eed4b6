"""The flags of every job: named as tyro names them, explained in one sentence each, few in the short help."""

import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import pytest
import tyro

import pipelines
from fss.core.config import settings
from fss.core.flags import check_required, field_docs, flags_without_effect, groups_without_effect, walk_flags
from pipelines.end_to_end.presets import same_preset
from pipelines.runtime.command_line import command, read_config
from pipelines.runtime.config import FLAT, RequiredText, TrackingConfig

JOBS = sorted(module.name for module in pkgutil.iter_modules(pipelines.__path__) if not module.ispkg)
WITHOUT_NETWORK = {"accept", "ingest", "lineage"}
MOST_IN_SHORT_HELP = 24


@dataclass(frozen=True)
class CommandLine:
    """What a job gives to its command line."""

    config_type: type[Any]
    run: Callable[[Any], Any]
    job: str
    description: str
    common: Mapping[str, Sequence[str]]
    presets: Mapping[str, Any] = field(default_factory=dict)
    default_preset: Any = None
    extras: Sequence[str] = ()


def command_line_of(job: str) -> CommandLine:
    """Return what the main function of a job gives to its command line."""
    module, lines = importlib.import_module(f"pipelines.{job}"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "cli_main", lambda *args, **more: lines.append(CommandLine(*args, **more)))
        module.main()
    (line,) = lines
    return line


@pytest.mark.parametrize("job", JOBS)
def test_names_are_those_of_the_parser(job: str) -> None:
    config_type = command_line_of(job).config_type
    parser = tyro.extras.get_parser(config_type, default=config_type())
    options = {option.removeprefix("--") for action in parser._actions for option in action.option_strings}
    options = {name for name in options if name not in ("-h", "help") and not re.search(r"(^|\.)no-", name)}
    flags = [flag.name for flag in walk_flags(config_type())]
    assert len(flags) == len(set(flags))
    assert set(flags) == options


@pytest.mark.parametrize("job", JOBS)
def test_every_job_that_runs_a_network_has_a_precision(job: str) -> None:
    line = command_line_of(job)
    flags = walk_flags(line.config_type())
    assert ("precision" in {flag.name for flag in flags}) == (job not in WITHOUT_NETWORK)
    if job in WITHOUT_NETWORK:
        return
    words = [word for flag in flags if flag.required for word in (f"--{flag.name}", "given")]
    for precision in ("fp32", "tf32", "bf16"):
        config = read_config(line.config_type, [*words, "--precision", precision], job=job, presets=line.presets)
        assert {flag.value for flag in walk_flags(config) if flag.name == "precision"} == {precision}
    with pytest.raises(ValueError, match="invalid choice 'fp16' for argument '--precision'"):
        read_config(line.config_type, [*words, "--precision", "fp16"], job=job, presets=line.presets)


@pytest.mark.parametrize("job", JOBS)
def test_every_setting_has_one_sentence(job: str) -> None:
    flags = walk_flags(command_line_of(job).config_type())
    sentence = re.compile(r"(?!(Of|Its|Theirs?|How)\b)\S.*\.")
    assert {flag.name: flag.doc for flag in flags if not sentence.fullmatch(flag.doc)} == {}


@pytest.mark.parametrize("job", JOBS)
def test_help_names_other_settings_as_flags(job: str) -> None:
    flags = [*walk_flags(command_line_of(job).config_type())]
    fields = {name for flag in flags for name in flag.path.split(".") if "_" in name}
    named = {flag.name: fields & set(re.findall(r"\w+", flag.doc)) for flag in flags}
    assert {name: found for name, found in named.items() if found} == {}


@pytest.mark.parametrize("job", JOBS)
def test_the_short_help_is_short_and_names_flags_of_the_job(job: str) -> None:
    line = command_line_of(job)
    names = [name for group in line.common.values() for name in group]
    flags = {flag.name: flag for flag in walk_flags(line.config_type())}
    assert set(names) <= set(flags)
    assert len(names) == len(set(names)) <= MOST_IN_SHORT_HELP
    assert {name for name, flag in flags.items() if flag.required} <= set(names)


@pytest.mark.parametrize("job", JOBS)
def test_the_example_commands_are_read(job: str) -> None:
    line = command_line_of(job)
    examples = re.sub(r"\\\n\s+", "", line.description)
    commands = re.findall(rf"^    python -m pipelines\.{job}\b(.*)$", examples, flags=re.MULTILINE)
    assert commands
    for words in commands:
        read_config(line.config_type, shlex.split(words.removesuffix(" ...")), job=job, presets=line.presets)


@pytest.mark.parametrize("job", JOBS)
def test_help_imports_nothing_heavy(job: str) -> None:
    code = (
        f"import sys; from pipelines.{job} import main; sys.argv = ['{job}', '--help']; main(); "
        "print('heavy:', *{'torch', 'ray', 'mlflow', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: python -m pipelines.{job}" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy:"


PRESETS = [(job, name) for job in JOBS for name in (None, *command_line_of(job).presets)]


@pytest.mark.parametrize(("job", "preset"), PRESETS)
def test_every_setting_that_is_given_wins_over_a_preset(job: str, preset: str | None) -> None:
    """All settings are given at once: those of every other preset, and the defaults of the settings' class."""
    line = command_line_of(job)
    starts = {None: line.config_type(), **{name: make() for name, make in line.presets.items()}}
    for config in starts.values():
        unused = flags_without_effect(config)
        given = [flag for flag in walk_flags(config) if flag.value != "" and flag.path not in unused]
        words = [*(["--preset", preset] if preset else []), *(word for flag in given for word in flag.words())]
        result = read_config(line.config_type, words, job=job, presets=line.presets)
        assert_same_effect(result, config)


def assert_same_effect(config: Any, other: Any) -> None:
    """Settings are equal but for those that have no effect."""
    one, two = ({flag.path: flag.value for flag in walk_flags(each)} for each in (config, other))
    unused = flags_without_effect(other)
    assert {path: value for path, value in one.items() if path not in unused} == {
        path: value for path, value in two.items() if path not in unused
    }


def test_a_setting_of_the_sample_survives_its_own_default_alone() -> None:
    """One setting at a time, with its class's default, which the sample's preset replaces where nothing is given."""
    line = command_line_of("masksplit")
    read = partial(
        read_config, line.config_type, job="masksplit", presets=line.presets, default_preset=line.default_preset
    )
    defaults = {flag.path: flag for flag in walk_flags(line.config_type())}
    for flag in walk_flags(line.presets["sample"]()):
        default = defaults[flag.path]
        if default.value == flag.value:
            continue
        if flag.name == "split.vertical":  # with the preset's horizontal cuts it would be more than all
            with pytest.raises(ValueError, match=r"vertical and horizontal .* sum to at most 1, got 1\.0, 0\.5"):
                read(default.words())
            continue
        config = read(default.words())
        changes = {
            after.path: after.value
            for before, after in zip(walk_flags(line.presets["sample"]()), walk_flags(config), strict=True)
            if before.value != after.value
        }
        assert changes == {flag.path: default.value}


@settings
class Inner:
    """Nested settings."""

    seed: Annotated[int, tyro.conf.arg(name="inner-seed")] = 1
    """Seed of the inner part."""
    deep: bool = False
    """Go deep."""


@settings
class Outer:
    """Settings of a job."""

    output: RequiredText = ""
    """Folder of
    the results."""
    flat: Annotated[Inner, FLAT] = field(default_factory=Inner)
    """Flags without a prefix."""
    nested: Inner = field(default_factory=Inner)
    """Flags with a prefix."""
    sizes: tuple[int, ...] = (1, 2)
    """Sizes."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""


def test_a_flag_has_name_path_value_and_meaning() -> None:
    flags = {flag.name: flag for flag in walk_flags(Outer())}
    assert list(flags)[:6] == ["output", "inner-seed", "deep", "nested.inner-seed", "nested.deep", "sizes"]
    assert (flags["inner-seed"].path, flags["nested.inner-seed"].path) == ("flat.seed", "nested.seed")
    assert flags["output"].required and not flags["sizes"].required
    assert field_docs(Outer)["output"] == flags["output"].doc == "Folder of the results."
    assert flags["sizes"].words() == ["--sizes", "1", "2"]
    assert flags["nested.deep"].words() == ["--nested.no-deep"]


def test_a_required_setting_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"--output is required: Folder of the results\."):
        check_required(Outer())
    check_required(Outer(output="here"))


def test_the_command_of_settings_gives_them_back() -> None:
    outer = Outer(output="a b", nested=Inner(deep=True, seed=4), sizes=())
    words = command("outer", outer, default=Outer())
    assert words == "python -m pipelines.outer --output 'a b' --nested.inner-seed 4 --nested.deep --sizes"


WITHOUT_EFFECT = {
    "train --classes.shots 5": "--classes.shots has no effect: episodes is split, which has no classes",
    "train --episodes classes --split.tilt 0.1": "--split.tilt has no effect: it is for split episodes",
    "train --episodes classes --loader ray": "--loader has no effect",
    "train --episodes classes --lanes 4": "--lanes has no effect",
    "train --episodes classes --held-out 0.2": "--held-out has no effect: the validation classes are val; give",
    "train --preset classes --augment.horizontal-flip 0.5": "augment.enabled is off, so every view is the plain",
    "train --preset hsnet-pascal --ema=0.99": "--ema has no effect: keep_weights is raw",
    "train --learner hsnet --width 64": "--width has no effect: it is for the learner masksplit",
    "train --learner hsnet --no-similarity": "--no-similarity has no effect",
    "ingest --source.subset val": "--source.subset has no effect: it is for a source of kind voc or coco or cityscapes",
    "ingest --source.kind coco --source.masks index": "--source.masks has no effect: it is for a source of kind folder",
    "ingest --source.kind labelme --source.void 3": "--source.void has no effect",
    "ingest --source.void 3": "--source.void has no effect: masks is auto; give --source.masks index or colors",
    "ingest --source.kind voc --source.mask-suffix _m": "--source.mask-suffix has no effect",
    "train --density-prior --density.prior-weight 2": "there is no saliency prior; give --saliency-prior",
    "train --split.vertical 0 --split.tilt 0.1": "--split.tilt has no effect: vertical and horizontal are 0",
    "relabel --relabel.supports bank --relabel.own view": "no picture is its own support",
    "pseudomask --actors-per-gpu 2": "the classical estimator runs on the CPU",
    "evaluate --learner density --density.prior-center 0.5": "there is no saliency prior; give --saliency-prior",
    "evaluate --benchmark pascal --fold 1 --split-folder lists": "protocol ours draws from the masks; give --protocol",
    "train --grid 64": "--grid has no effect: it is for the learner vat, but learner is masksplit",
    "train --drifting_batchnorm": "--drifting-batchnorm has no effect: the backbone is not frozen",
    "train --split.as-released --split.tilt 0.1": "moves the ends of the line by up to 40 pixels",
    "train --split.collage-scale 0.5 1": "collage is 0",
    "train --augment.rotate 0 --augment.degrees 45": "rotate is 0",
    "train --cache-gb 0 --cache-folder here": "cache_gb is 0",
    "train --episodes classes --classes.order consecutive": "for the folds of COCO-20i",
    "train --episodes classes --classes.benchmark fss --classes.fold 1": "FSS-1000 has no folds",
    "masksplit --self-training.relabel.edges": "there are no rounds of self-training; give --rounds 1",
    "masksplit --saliency-training.epochs 3": "no saliency student is trained; give --saliency-student auto",
    "masksplit --photographs here --evaluate.episodes 5": "no labelled pictures to evaluate on; give --evaluation",
    "masksplit --photographs here --sample.unlabelled 5": "--sample.unlabelled has no effect: photographs are given",
    "masksplit --evaluation there --sample.labelled 5": "labelled pictures are given; leave --evaluation out",
    "pseudomask --vit.threshold 0.2": "estimator is classical; give --estimator vit",
    "pseudomask --fleet.cores 3": "it is for the estimate of --plan",
    "pseudomask --estimator student --student file --saliency.segments 9": "give --estimator classical",
    "train_saliency --backbone-learning-rate 1e-3": "the backbone is frozen",
    "relabel --relabel.margin 0.2": "a picture has one class; give bank",
    "relabel --relabel.supports self --relabel.shots 2": "own supports are always two sets",
    "relabel --relabel.supports bank --relabel.min-similarity 0.2": "no neighbours are sought",
    "evaluate --no-baselines --saliency.segments 9": "baselines is off",
    "evaluate --benchmark fss --fold 1": "FSS-1000 has no folds",
    "tune --gate.alias best": "no labelled pictures for the gate; give --gate.evaluation",
    "tune --no-prune --reduction 3": "no trial is stopped early",
    "reproduce --training.steps 3": "train is off, so nothing is trained; give --train",
    "selftrain --val-mask-set gold": "there is no validation collection",
    "selftrain --all-dilations": "give --network deeplabv2",
    "selftrain --labelled.seed 3": "labelled.count is None",
    "selftrain --strong.mix-probability 1": "mix is none",
    "selftrain --training.teacher-weight 1 --training.pseudo-weight 1 --training.consistency-weight 1": "leave one",
    "ingest --duplicate-distance 3": "drop_duplicates is off",
    "ingest --part-size 9 --part-bytes 9": "part_size is 9",
}


@pytest.mark.parametrize("words", WITHOUT_EFFECT)
def test_a_flag_without_an_effect_is_refused(words: str) -> None:
    job, *flags = words.split()
    line = command_line_of(job)
    with pytest.raises(ValueError, match=re.escape(WITHOUT_EFFECT[words])) as refused:
        read_config(
            line.config_type, flags, job=job, presets=line.presets, default_preset=line.default_preset or no_preset
        )
    assert str(refused.value).endswith(", or leave it out")


def no_preset(words: Sequence[str]) -> None:
    return None


@pytest.mark.parametrize(
    "words",
    [
        "train --episodes classes --classes.shots 5 --classes.val --held-out 0.2",
        "train --preset classes --augment.enabled --augment.horizontal-flip 0.5",
        "train --preset hsnet-pascal --keep-weights averaged --ema 0.99",
        "train --learner vat --grid 64 --benchmark coco",
        "train --backbone-weights file --drifting-batchnorm",
        "masksplit --rounds 1 --self-training.relabel.edges --learner hsnet",  # the sample's width is not the user's
        "masksplit --photographs here --evaluation there --evaluate.episodes 5",
        "pseudomask --plan --fleet.cores 3 --saliency.segments 9",
        "evaluate --benchmark pascal --fold 1",
        "evaluate --benchmark pascal --fold 1 --protocol ifsl --split-folder lists",
        "ingest --source.kind voc --source.subset val --source.void 255 254",
        "masksplit --photographs here --saliency-student auto --density.prior-weight 2 --actors-per-gpu 2",
        "tune --gate.evaluation there --gate.alias best",
        "reproduce --train --training.steps 3",
        "selftrain --preset cityscapes --all-dilations --labelled.seed 3",
    ],
)
def test_a_flag_with_an_effect_is_read_and_shown_again(words: str) -> None:
    job, *flags = words.split()
    line = command_line_of(job)
    read = partial(
        read_config, line.config_type, job=job, presets=line.presets, default_preset=line.default_preset or no_preset
    )
    config = read(flags)
    assert_same_effect(read(shlex.split(command(job, config, default=line.config_type()))[3:]), config)


@pytest.mark.parametrize("job", JOBS)
def test_settings_without_an_effect_are_settings(job: str) -> None:
    """A reason for a name that is no setting would never be told."""
    line = command_line_of(job)
    for config in (line.config_type(), *(make() for make in line.presets.values())):
        paths = [flag.path for flag in walk_flags(config)]
        groups = [group for group, _ in groups_without_effect(config)]
        assert not [group for group in groups if not any(f"{path}.".startswith(f"{group}.") for path in paths)]


@pytest.mark.parametrize(
    "words", ["--image-size 400", "--photographs here", "--preset paper --photographs here", "--preset sample"]
)
def test_the_command_of_a_main_job_gives_its_settings_back(words: str) -> None:
    """Also those that equal a default of the class, which the preset of a command line without one would replace."""
    line = command_line_of("masksplit")
    read = partial(
        read_config, line.config_type, job="masksplit", presets=line.presets, default_preset=line.default_preset
    )
    config = read(words.split())
    preset, start = same_preset(config)
    assert_same_effect(read(shlex.split(command("masksplit", config, default=start, preset=preset))[3:]), config)

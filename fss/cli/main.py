"""The command ``fss``. Each verb is a module of ``fss.cli``, which is imported only when it runs."""

import difflib
import importlib
import sys
from collections.abc import Sequence

import fss
from fss.core.exit_codes import REPEAT, exit_cleanly
from fss.core.extras import require
from fss.core.system import let_threads_sleep

VERBS = {
    "predict": "segment photographs by example: a picture and its mask, or a box",
    "app": "a page in the browser: mark an object, find it in other photographs, correct, export",
    "saliency": "segment the salient object of every photograph, without examples",
    "inspect": "describe a collection: counts, mask sets and their origin, a contact sheet",
    "masks": "export a mask set (PNG, COCO, Label Studio, CVAT), import edited masks, rename, delete",
    "collection": "maintain a collection: its format, its manifests, and photographs that repeat others",
    "export": "export a segmenter as a program for ONNX or PyTorch (.pt2)",
    "push": "push a segmenter to the Hugging Face Hub, with a model card",
    "sync": "send to MLflow what it missed while it did not answer",
    "doctor": "check this machine, and estimate the disk space and time of a job",
}
EXTRAS = {"app": "app", "push": "hub", "sync": "track"}
"""The extra that a verb needs; the others work without."""
_HELP = """usage: fss VERB [OPTIONS]         (fss VERB --help explains each)

Masks from photographs, almost without labels.

{verbs}

    fss predict --model runs/masksplit --support cup.jpg:cup.png --query ~/photos --output masks
    fss predict --model birds@best --support bird.jpg:40,60,180,220 --query new.jpg --output masks
    fss predict --support cup.jpg:cup.png --query ~/photos --output masks        # without training
    fss saliency ~/photos --output masks

Jobs on collections run on a laptop or a cluster with `python -m pipelines.JOB` (--help explains each): ingest (--append
adds new files of a folder), pseudomask, train, relabel, evaluate, and masksplit, which runs them one after the other.

Exit codes: 0 done; 1 something failed, see the last line; 2 a mistake in the arguments; 3 done, but some pictures or
checks failed; 130 interrupted; 143 stopped by SIGTERM, 129 by SIGHUP. FSS_TRACEBACK=1 shows the traceback of a mistake.
"""


def main(words: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its exit code; ``words`` are the command line arguments without the program name."""
    words = list(sys.argv[1:] if words is None else words)
    let_threads_sleep()  # before a verb imports torch
    with exit_cleanly(f"fss {words[0]}" if words else "fss", advice=REPEAT):
        if not words or words[0] in ("-h", "--help", "help"):
            print(_HELP.format(verbs="\n".join(f"    {verb:<10} {what}" for verb, what in VERBS.items())))
            raise SystemExit(0 if words else 2)
        if words[0] == "--version":
            print(f"fss {fss.__version__}")
            return
        verb = words[0]
        if verb not in VERBS:
            near = difflib.get_close_matches(verb, VERBS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"there is no verb {verb!r}.{hint} The verbs are {', '.join(VERBS)}.")
        if verb in EXTRAS:
            require(EXTRAS[verb], what=f"fss {verb}")
        command = importlib.import_module(f"fss.cli.{verb}")
        from fss.core.flags import check_subcommand

        check_subcommand(command.Config, words[1:])
        if {"--help", "-h"} & set(words):
            from fss.cli._help import verb_help

            print(verb_help(verb, command.Config, str(command.__doc__), words[1:]), end="")
            return
        from fss.core.parsing import parse_settings

        settings = parse_settings(command.Config, words[1:], prog=f"fss {verb}")
        raise SystemExit(command.run(settings))


if __name__ == "__main__":
    main()

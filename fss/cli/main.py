"""The command ``fss``: one verb per file in ``fss.cli``, imported when it is asked for."""

import difflib
import importlib
import sys
from collections.abc import Sequence

import fss
from fss.core.exit_codes import exit_cleanly

VERBS = {
    "predict": "segment photographs by example: a picture and its mask, or a box",
    "saliency": "find the salient object of every photograph, without any example",
    "inspect": "look at a collection: counts, mask sets, where they come from, a contact sheet",
    "masks": "export a mask set as PNGs or COCO JSON, rename it, delete it",
    "export": "write a segmenter as a program of its own: ONNX, or PyTorch's .pt2",
    "doctor": "check this machine, and say what disk and time a job would need",
}
_HELP = """usage: fss VERB [OPTIONS]         (fss VERB --help explains each)

Masks from photographs, almost without labels.

{verbs}

    fss predict --model runs/masksplit --support cup.jpg:cup.png --query ~/photos --output masks
    fss predict --model birds@best --support bird.jpg:40,60,180,220 --query new.jpg --output masks
    fss saliency ~/photos --output masks

Jobs on collections, from a laptop to a cluster, are started as `python -m pipelines.JOB --help`: ingest (--append adds
what a folder has gained), pseudomask, train, relabel, evaluate, and masksplit, which is all of them in a row.

Exit codes: 0 done; 1 something failed, the last line says what; 2 a mistake in what was asked; 3 done, but some
pictures or checks failed; 130 interrupted. FSS_TRACEBACK=1 shows where a mistake was found.
"""


def main(words: Sequence[str] | None = None) -> None:
    """Run a verb and exit with its code."""
    words = list(sys.argv[1:] if words is None else words)
    with exit_cleanly(f"fss {words[0]}" if words else "fss"):
        if not words or words[0] in ("-h", "--help", "help"):
            print(_HELP.format(verbs="\n".join(f"    {verb:<10} {what}" for verb, what in VERBS.items())))
            raise SystemExit(0 if words else 2)
        if words[0] == "--version":
            print(f"fss {fss.__version__}")
            return
        verb = words[0]
        if verb not in VERBS:
            near = difflib.get_close_matches(verb, VERBS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"there is no verb {verb!r}{hint} The verbs are {', '.join(VERBS)}")
        command = importlib.import_module(f"fss.cli.{verb}")
        import tyro

        settings = tyro.cli(command.Config, args=words[1:], prog=f"fss {verb}", description=command.__doc__)
        raise SystemExit(command.run(settings))


if __name__ == "__main__":
    main()

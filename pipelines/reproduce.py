"""Verify published claims: compare each result of a paper with the result that its model reaches here.

    python -m pipelines.reproduce --output ledger --dry-run
    python -m pipelines.reproduce --output ledger --dataset FSS-1000 --collections.fss fss1000 --models released
    python -m pipelines.reproduce --output ledger --dataset FSS-1000 --model HSNet --collections.fss fss1000 --train

With --train, the job first trains the missing models with the published settings, one per fold. --training.steps and
others change these settings, and the ledger shows the change. Claims about the same model share it.

After every claim, the job writes ledger.json, ledger.csv and ledger.md into the output folder: the claim, our result,
the difference and a state, which is verified (within the tolerance), short (below it), measured (nothing is published)
or not run (with everything that is missing). The learner density needs no model: --model density. A stopped job resumes
when it runs again, and repeats no finished training or evaluation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fss.core import storage
from fss.core.config import config_hash
from fss.core.flags import check_required
from pipelines.reproduction.config import HELP, ReproduceConfig
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.labels import Labels
from pipelines.runtime.metric_names import logged_metrics
from pipelines.runtime.result import JobResult

if TYPE_CHECKING:
    from fss.evaluation.claims import Claim
    from fss.evaluation.claims_ledger import LedgerEntry
    from fss.tracking.run import Run

JOB = "reproduce"


def run(config: ReproduceConfig, *, parent: "Run | None" = None) -> JobResult:
    """Verify the selected claims, and list what is missing for the claims that cannot be verified.

    Raises:
        ValueError: no claim is selected, a folder does not exist, or the output folder has a ledger of other claims.
    """
    from fss.evaluation.claims import parse_claims, read_claims, select_claims
    from fss.evaluation.claims_ledger import Ledger, to_markdown

    check_required(config)
    _check_folders(config)
    claims = read_claims() if config.claims is None else parse_claims(storage.read_bytes(config.claims).decode())
    selected = select_claims(
        claims,
        dataset=config.dataset,
        model=config.model,
        masking=config.masking,
        backbone=config.backbone,
        shots=config.shots,
        source=config.source,
    )
    output_dir = storage.absolute_uri(config.output)
    with Job(
        JOB,
        config,
        key=config_hash([JOB, output_dir, [claim.key for claim in selected]]),
        output_dir=output_dir,
        inputs={"claims": len(selected)},
        plan=_estimate(selected, config) if config.dry_run else {},
        labels=Labels(data=config.dataset or "", result=config.model or "", amount=f"{len(selected)} claims"),
        complete=False,  # missing collections and models may exist by the next run
        parent=parent,
    ) as job:
        if job.done:
            return job.result
        ledger = Ledger(output_dir, claims)
        for claim in selected:
            with job.timed("claims"):
                ledger.put(_verify(claim, config, job.run))
        ledger.write()
        entries = [ledger[claim] for claim in selected]
        job.result.report = job.result.markdown = to_markdown(entries)
        job.result.counts = ledger.counts()
        job.result.metrics = {each.claim.key: round(each.result, 2) for each in entries if each.result is not None}
        job.result.outputs = {"ledger": storage.join(output_dir, "ledger.md")}
        job.run.log_metrics(logged_metrics(ledger.counts(), prefix="claims/"))
        job.run.log_text("ledger.md", to_markdown(ledger.entries))
    return job.result


def _verify(claim: "Claim", config: ReproduceConfig, mlflow_run: "Run") -> "LedgerEntry":
    """Run the trainings and evaluations of a claim; a ValueError of a job becomes a missing item of the entry."""
    from fss.evaluation.claims_ledger import LedgerEntry, claim_state
    from pipelines import evaluate, train
    from pipelines.reproduction.requirements import find_needs, fold_name
    from pipelines.reproduction.training import describe

    needs = find_needs(claim, config)
    if needs.absent:
        return LedgerEntry(claim=claim, missing=needs.missing, commands=needs.commands, notes=needs.notes)
    try:
        for training in needs.trainings:
            train.run(training, parent=mlflow_run)
        evaluated = [evaluate.run(evaluation, parent=mlflow_run) for evaluation in needs.evaluations]
    except ValueError as error:
        return LedgerEntry(claim=claim, missing=(str(error),), commands=needs.commands, notes=needs.notes)
    folds, plans, protocol, episodes = {}, {}, "", 0
    for evaluation, result in zip(needs.evaluations, evaluated, strict=True):
        name = fold_name(evaluation.fold)
        folds[name] = 100 * float(result.metrics[f"{claim.shots}-shot/model/{needs.metric}"])
        plans[name] = result.inputs[f"{claim.shots}-shot plan"]
        protocol, episodes = result.inputs["protocol"], result.counts["episodes"]
    mean = sum(folds.values()) / len(folds)
    claimed = {} if claim.claimed is None else {f"claims/{claim.row}.claimed": claim.claimed}
    mlflow_run.log_metrics({f"claims/{claim.row}.ours": mean, **claimed})
    return LedgerEntry(
        claim=claim,
        state=claim_state(claim, mean, tolerance=config.tolerance),
        result=mean,
        folds=folds,
        protocol=protocol,
        training=describe(needs.trainings[0]) if needs.trainings else "",
        episodes=episodes,
        plans=plans,
        commands=needs.commands,
        notes=needs.notes,
        run_id=mlflow_run.run_id,
    )


def _estimate(claims: "Sequence[Claim]", config: ReproduceConfig) -> dict[str, Any]:
    """Return needs by claim with estimated hours, then how to get what is missing; a shared training counts once.

    Networks are timed after all claims have been checked, and only those of claims that miss nothing. The hours of a
    GPU are computed.
    """
    from pipelines.reproduction.cost import CostMeter
    from pipelines.reproduction.gpu_cost import gpu_hours
    from pipelines.reproduction.requirements import find_needs
    from pipelines.reproduction.training import is_trained

    needs_by_claim = {claim: find_needs(claim, config) for claim in claims}
    meter, total, plan, counted = CostMeter(), 0.0, {}, set[str]()
    sources: dict[str, str] = {}
    for claim, needs in needs_by_claim.items():
        trainings = {
            str(each.name): each for each in needs.trainings if each.name not in counted and not is_trained(each)
        }
        gpu = gpu_hours(claim, config, trainings.values())
        if needs.absent:
            what = "; ".join(each.what for each in needs.absent)
            plan[claim.key] = "; ".join([f"missing: {what}", *([gpu] if gpu else []), *needs.notes])
            sources |= {f"get {each.origin}": f"{each.what}{each.how}" for each in needs.absent if each.origin}
            continue
        evaluation = meter.hours(claim, config.episodes, config.training.image_size if needs.trainings else None)
        training = sum(map(meter.training_hours, trainings.values()))
        total += evaluation + training
        counted |= trainings.keys()
        hours = f"on this {meter.device_name}: about {evaluation:.2f} h"
        if needs.trainings:
            hours += f" and {training:.2f} h of training that is not finished or counted above"
        plan[claim.key] = "; ".join([hours, "ready", gpu, *needs.notes, *needs.commands])
    ready = f"{total:.2f} h in one process on this machine, estimated from single steps with random weights"
    return {**plan, **sources, "all that is ready": ready}


def _check_folders(config: ReproduceConfig) -> None:
    """Refuse folders that do not exist.

    Raises:
        ValueError: there is nothing at the path of a flag.
    """
    folders = {"models": config.models, "weights-folder": config.weights_folder, "split-folder": config.split_folder}
    for flag, uri in folders.items():
        if uri is not None and not storage.is_remote(uri) and not Path(storage.resolve(uri)[1]).is_dir():
            raise ValueError(f"--{flag}: there is no folder {uri}; give an existing folder or an s3:// URI")


def main() -> None:
    """Run from the command line."""
    cli_main(ReproduceConfig, run, job=JOB, description=str(__doc__), common=HELP)


if __name__ == "__main__":
    main()

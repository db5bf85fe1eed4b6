"""Verify published claims: compare each result of a paper with the result that its model reaches here.

    python -m pipelines.reproduce --output ledger --dry-run
    python -m pipelines.reproduce --output ledger --dataset FSS-1000 --collections.fss fss --models released
    python -m pipelines.reproduce --output ledger --dataset FSS-1000 --model HSNet --collections.fss fss --train

With --train, the job first trains the missing models with the published settings, one per fold. --training.steps and
others change these settings, and the ledger shows the change. Claims about the same model share it.

After every claim, the job writes ledger.json, ledger.csv and ledger.md into the output folder: the claim, our result,
the difference and a state, which is verified (within the tolerance), short (below it) or not run (with everything that
is missing). A stopped job resumes when it runs again, and repeats no finished training or evaluation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fss.core import storage
from fss.core.config import config_hash
from pipelines.reproduction.config import HELP, ReproduceConfig
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.flags import check_required
from pipelines.runtime.job import Job, logged_metrics
from pipelines.runtime.result import JobResult

if TYPE_CHECKING:
    from fss.evaluation.claims import Claim
    from fss.evaluation.claims_ledger import LedgerEntry
    from fss.tracking.run import Run
    from pipelines.reproduction.requirements import Needs

JOB = "reproduce"


def run(config: ReproduceConfig, *, parent: "Run | None" = None) -> JobResult:
    """Verify the selected claims, and list what is missing for the claims that cannot be verified.

    Raises:
        ValueError: no claim is selected, or the output folder has a ledger of other claims.
    """
    from fss.evaluation.claims import parse_claims, read_claims, select_claims
    from fss.evaluation.claims_ledger import Ledger, to_markdown

    check_required(config)
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
        job.result.report = to_markdown(entries)
        job.result.counts = ledger.counts()
        job.result.metrics = {each.claim.key: round(each.result, 2) for each in entries if each.result is not None}
        job.result.outputs = {"ledger": storage.join(output_dir, "ledger.md")}
        job.run.log_metrics(logged_metrics(ledger.counts(), prefix="claims."))
        job.run.log_text("ledger.md", to_markdown(ledger.entries))
    return job.result


def _verify(claim: "Claim", config: ReproduceConfig, mlflow_run: "Run") -> "LedgerEntry":
    """Run the trainings and evaluations of a claim; a ValueError of a job becomes a missing item of the entry."""
    from fss.evaluation.claims_ledger import LedgerEntry, claim_state
    from pipelines import evaluate, train
    from pipelines.reproduction.requirements import find_needs, fold_name
    from pipelines.reproduction.training import describe

    needs = find_needs(claim, config)
    if needs.missing:
        return LedgerEntry(claim=claim, missing=needs.missing, commands=needs.commands)
    try:
        for training in needs.trainings:
            train.run(training, parent=mlflow_run)
        evaluated = [evaluate.run(evaluation, parent=mlflow_run) for evaluation in needs.evaluations]
    except ValueError as error:
        return LedgerEntry(claim=claim, missing=(str(error),), commands=needs.commands)
    folds, plans, protocol, episodes = {}, {}, "", 0
    for evaluation, result in zip(needs.evaluations, evaluated, strict=True):
        name = fold_name(evaluation.fold)
        folds[name] = 100 * float(result.metrics[f"{claim.shots}-shot/model/{needs.metric}"])
        plans[name] = result.inputs[f"{claim.shots}-shot plan"]
        protocol, episodes = result.inputs["protocol"], result.counts["episodes"]
    mean = sum(folds.values()) / len(folds)
    mlflow_run.log_metrics({f"claim.{claim.row}.ours": mean, f"claim.{claim.row}.claimed": claim.claimed})
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
        run_id=mlflow_run.run_id,
    )


def _estimate(claims: "Sequence[Claim]", config: ReproduceConfig) -> dict[str, Any]:
    """Return needs and estimated hours by claim; the total counts a shared training once."""
    from pipelines.reproduction.cost import CostMeter
    from pipelines.reproduction.requirements import find_needs
    from pipelines.reproduction.training import is_trained

    meter, total, plan, counted = CostMeter(), 0.0, {}, set[str]()
    for claim in claims:
        needs = find_needs(claim, config)
        image_size = config.training.image_size if needs.trainings else None
        evaluation = 0.0 if claim.backbone == "unknown" else meter.hours(claim, config.episodes, image_size)
        trainings = {
            str(each.name): each for each in needs.trainings if each.name not in counted and not is_trained(each)
        }
        training = sum(map(meter.training_hours, trainings.values()))
        if not needs.missing:
            total += evaluation + training
            counted |= trainings.keys()
        plan[claim.key] = _plan_text(needs, evaluation, training)
    ready = f"{total:.2f} h in one process on this machine, estimated from single steps with random weights"
    return {**plan, "all that is ready": ready}


def _plan_text(needs: "Needs", evaluation: float, training: float) -> str:
    hours = f"about {evaluation:.2f} h"
    if needs.trainings:
        hours += f" and {training:.2f} h of training that is not finished or counted above"
    state = f"missing: {'; '.join(needs.missing)}" if needs.missing else "; ".join(["ready", *needs.commands])
    return f"{hours}; {state}"


def main() -> None:
    """Run from the command line."""
    cli_main(ReproduceConfig, run, job=JOB, description=str(__doc__), common=HELP)


if __name__ == "__main__":
    main()

"""Verify published claims: every figure of a paper beside the one that its model reaches here.

    python -m pipelines.reproduce --output ledger --dry-run
    python -m pipelines.reproduce --output ledger --dataset FSS-1000 --collections.fss fss --checkpoints released
    python -m pipelines.reproduce --output ledger --dataset FSS-1000 --model HSNet --collections.fss fss --train

With ``--train`` the models that are not among the checkpoints are trained first, every fold with the published settings
(``--training.steps`` and others change them, which the ledger tells); one model serves all claims on it.

Writes ledger.json, ledger.csv and ledger.md into the output folder after every claim: claimed, ours, difference, and a
state. *verified*: reached within the tolerance; *short*: below; *not run*: with all that is missing. Stop it any time:
started again it goes on, and a training or evaluation that is finished is not done again.
"""

from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.evaluation.claims import Claim, parse_claims, read_claims, select_claims
from fss.evaluation.claims_ledger import Ledger, LedgerEntry, claim_state, to_markdown
from fss.tracking.run import Run
from pipelines import evaluate, train
from pipelines.reproduction.config import ReproduceConfig
from pipelines.reproduction.cost import CostMeter
from pipelines.reproduction.requirements import Needs, find_needs, fold_name
from pipelines.reproduction.training import describe, is_trained
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.result import JobResult, cli_main, dry_run_result

JOB = "reproduce"


def run(config: ReproduceConfig, *, parent: Run | None = None) -> JobResult:
    """Verify the selected claims for which everything is at hand, and say of the others what is missing.

    Raises:
        ValueError: no claim is selected, or the output folder holds the ledger of other claims.
    """
    claims = read_claims() if config.claims is None else parse_claims(storage.read_bytes(config.claims).decode())
    chosen = _select(claims, config)
    if config.dry_run:
        return _estimate(chosen, config)
    home = storage.absolute_uri(config.output)
    ledger = Ledger(home, claims)
    key = config_hash([JOB, home, [claim.key for claim in chosen]])
    summary = JobResult(job=JOB, inputs={"claims": len(chosen), "key": key})
    with job_run(JOB, key=key, tracking=config.tracking, parent=parent, params=to_dict(config)) as record:
        summary.run_id = record.run_id
        for claim in chosen:
            with summary.timed("claims"):
                ledger.put(_verify(claim, config, record))
        ledger.write()
        shown = [ledger[claim] for claim in chosen]
        summary.report = to_markdown(shown)
        summary.counts = ledger.counts()
        summary.metrics = {entry.claim.key: round(entry.result, 2) for entry in shown if entry.result is not None}
        summary.outputs = {"ledger": storage.join(home, "ledger.md")}
        summary.write(home)
        record.log_metrics({f"claims.{state.replace(' ', '_')}": count for state, count in ledger.counts().items()})
        record.log_text("ledger.md", to_markdown(ledger.entries))
    return summary


def _select(claims: tuple[Claim, ...], config: ReproduceConfig) -> tuple[Claim, ...]:
    return select_claims(
        claims,
        dataset=config.dataset,
        model=config.model,
        masking=config.masking,
        backbone=config.backbone,
        shots=config.shots,
        source=config.source,
    )


def _verify(claim: Claim, config: ReproduceConfig, record: Run) -> LedgerEntry:
    """Run one claim's trainings and evaluations; what the user's data or files do not allow is what is missing."""
    needs = find_needs(claim, config)
    if needs.missing:
        return LedgerEntry(claim=claim, missing=needs.missing, commands=needs.commands)
    try:
        for training in needs.trainings:
            train.run(training, parent=record)
        results = [evaluate.run(evaluation, parent=record) for evaluation in needs.evaluations]
    except ValueError as error:
        return LedgerEntry(claim=claim, missing=(str(error),), commands=needs.commands)
    folds, plans, protocol, episodes = {}, {}, "", 0
    for evaluation, result in zip(needs.evaluations, results, strict=True):
        name = fold_name(evaluation.fold)
        folds[name] = 100 * float(result.metrics[f"{claim.shots}-shot/model/{needs.metric}"])
        plans[name] = result.inputs[f"{claim.shots}-shot plan"]
        protocol, episodes = result.inputs["protocol"], result.counts["episodes"]
    mean = sum(folds.values()) / len(folds)
    record.log_metrics({f"claim.{claim.row}.ours": mean, f"claim.{claim.row}.claimed": claim.claimed})
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
        run_id=record.run_id,
    )


def _estimate(claims: tuple[Claim, ...], config: ReproduceConfig) -> JobResult:
    """Say what every claim needs and takes; a training that several claims share counts once."""
    meter, total, plan, counted = CostMeter(), 0.0, {}, set[str]()
    for claim in claims:
        needs = find_needs(claim, config)
        evaluation = (
            meter.hours(claim, config.episodes, config.training.image_size if needs.trainings else None)
            if claim.backbone != "unknown"
            else 0.0
        )
        new = {str(one.name): one for one in needs.trainings if one.name not in counted and not is_trained(one)}
        training = sum(meter.training_hours(one) for one in new.values())
        if not needs.missing:
            total += evaluation + training
            counted |= new.keys()
        plan[claim.key] = _in_words(needs, evaluation, training)
    ready = f"{total:.2f} h in one process on this machine, from single steps timed with random weights"
    return dry_run_result(JOB, config, {**plan, "all that is ready": ready})


def _in_words(needs: Needs, evaluation: float, training: float) -> str:
    hours = f"about {evaluation:.2f} h"
    if needs.trainings:
        hours += f" and {training:.2f} h of training that is not done or counted above"
    state = f"missing: {'; '.join(needs.missing)}" if needs.missing else "; ".join(["ready", *needs.commands])
    return f"{hours}; {state}"


def main() -> None:
    """Run from the command line."""
    cli_main(ReproduceConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()

"""Verify published claims: every figure of a paper beside the one that its model reaches here.

    python -m pipelines.reproduce --output ledger --dry-run
    python -m pipelines.reproduce --output ledger --dataset FSS-1000 --collections.fss fss --checkpoints released

Writes ledger.json, ledger.csv and ledger.md into the output folder after every claim: claimed, ours, difference, and a
state. *verified*: reached within the tolerance; *short*: below; *not run*: with all that is missing. Stop it any time:
started again it goes on, and an evaluation that is finished is not done again.
"""

from fss.collection import files
from fss.config import config_hash, to_dict
from fss.evaluation.claims import Claim, parse_claims, read_claims, select_claims
from fss.evaluation.ledger import Ledger, LedgerEntry, judge, to_markdown
from fss.tracking import Run
from pipelines import evaluate
from pipelines.common.reproduce_config import ReproduceConfig
from pipelines.common.reproduce_cost import CostMeter
from pipelines.common.reproduce_needs import find_needs, fold_name
from pipelines.common.runs import job_run
from pipelines.common.summary import Summary, cli_main, dry_run_summary

JOB = "reproduce"


def run(config: ReproduceConfig, *, parent: Run | None = None) -> Summary:
    """Verify the selected claims for which everything is at hand, and say of the others what is missing.

    Raises:
        ValueError: no claim is selected, or the output folder holds the ledger of other claims.
    """
    claims = read_claims() if config.claims is None else parse_claims(files.read_bytes(config.claims).decode())
    chosen = _select(claims, config)
    if config.dry_run:
        return _estimate(chosen, config)
    home = files.normalise(config.output)
    ledger = Ledger(home, claims)
    key = config_hash([JOB, home, [claim.key for claim in chosen]])
    summary = Summary(job=JOB, inputs={"claims": len(chosen), "key": key})
    with job_run(JOB, key=key, tracking=config.tracking, parent=parent, params=to_dict(config)) as record:
        summary.run_id = record.run_id
        for claim in chosen:
            with summary.timed("claims"):
                ledger.put(_verify(claim, config, record))
        ledger.write()
        shown = [ledger[claim] for claim in chosen]
        summary.report = to_markdown(shown)
        summary.counts = ledger.counts()
        summary.figures = {entry.claim.key: round(entry.figure, 2) for entry in shown if entry.figure is not None}
        summary.outputs = {"ledger": files.join(home, "ledger.md")}
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
    """Run one claim's evaluations; what the user's data or files do not allow is what is missing."""
    needs = find_needs(claim, config)
    if needs.missing:
        return LedgerEntry(claim=claim, missing=needs.missing, commands=needs.commands)
    folds, plans, protocol, episodes = {}, {}, "", 0
    for evaluation in needs.evaluations:
        try:
            result = evaluate.run(evaluation, parent=record)
        except ValueError as error:
            return LedgerEntry(claim=claim, missing=(str(error),), commands=needs.commands)
        name = fold_name(evaluation.fold)
        folds[name] = 100 * float(result.figures[f"{claim.shots}-shot/model/{needs.metric}"])
        plans[name] = result.inputs[f"{claim.shots}-shot plan"]
        protocol, episodes = result.inputs["protocol"], result.counts["episodes"]
    figure = sum(folds.values()) / len(folds)
    record.log_metrics({f"claim.{claim.row}.ours": figure, f"claim.{claim.row}.claimed": claim.claimed})
    return LedgerEntry(
        claim=claim,
        state=judge(claim, figure, tolerance=config.tolerance),
        figure=figure,
        folds=folds,
        protocol=protocol,
        episodes=episodes,
        plans=plans,
        commands=needs.commands,
        run_id=record.run_id,
    )


def _estimate(claims: tuple[Claim, ...], config: ReproduceConfig) -> Summary:
    meter, total, plan = CostMeter(), 0.0, {}
    for claim in claims:
        needs = find_needs(claim, config)
        hours = meter.hours(claim, config.episodes) if claim.backbone != "unknown" else 0.0
        state = "ready" if not needs.missing else f"missing: {'; '.join(needs.missing)}"
        if not needs.missing:
            total += hours
            state += "; ".join(["", *needs.commands])
        plan[claim.key] = f"about {hours:.2f} h; {state}"
    ready = f"{total:.2f} h in one process on this machine, from one episode timed with random weights"
    return dry_run_summary(JOB, config, {**plan, "all that is ready": ready})


def main() -> None:
    """Run from the command line."""
    cli_main(ReproduceConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()

"""The outputs of an evaluation: tables, plans, results per episode, and drawings of episodes."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from fss.collection import ImageReader
from fss.core import storage
from fss.evaluation.episode_table import write_episode_table
from fss.evaluation.evaluator import EvaluationResult
from fss.evaluation.example_gallery import FIXED_EPISODES, choose_episodes, episode_ious, random_episode_numbers
from fss.evaluation.report import Row, result_rows, to_json, to_markdown, to_text
from fss.evaluation.verdict import judge
from fss.images.resize import image_canvas, mask_canvas
from fss.tracking.delivery import LOCAL
from fss.visualize import EpisodeView, episode_legend, episode_sheet, png_bytes
from pipelines.evaluation.task import MODEL
from pipelines.runtime.description import comparison_address
from pipelines.runtime.job import Job
from pipelines.runtime.metric_names import method_metrics

EPISODES = "episodes.parquet"
BASELINE = "baseline:"
"""Start of the name of a baseline's run."""
METHOD_TAG = "fss.method"
"""Tag of a baseline's run with the name of the baseline."""


def write_report(
    results: list[EvaluationResult], job: Job, output_dir: str, *, reader: ImageReader, visualizations: int
) -> None:
    """Fill in the job's result, and write the report into a folder and the MLflow run.

    Args:
        results: one result per plan.
        job: the evaluation job.
        output_dir: folder of the results.
        reader: reader of the pictures and their ground truth.
        visualizations: number of episodes to draw of each kind; 0 draws none.
    """
    table = result_rows(results, model=MODEL)
    job.result.report, job.result.markdown = to_text(table), to_markdown(table)
    job.result.counts = {
        "episodes": sum(len(result.plan) for result in results),
        "classes": len(results[0].plan.classes),
        **{f"{result.plan.shots}-shot backbone passes": result.passes[MODEL] for result in results},
    }
    job.result.metrics = metrics(table)
    _log_baselines(job, [method for method in results[0].counts if method != MODEL])
    verdict = judge(table, uri=str(job.result.inputs["checkpoint"]))
    if verdict is not None:
        job.result.verdicts = {MODEL: asdict(verdict)}
    job.result.outputs = {"results": output_dir}
    for result in results:
        result.plan.save(storage.join(output_dir, f"plan-{result.plan.shots}shot.parquet"))
        if visualizations:
            for name, sheet in _sheets(result, reader, visualizations).items():
                _write(output_dir, name, png_bytes(sheet))
                job.run.log_image(name, sheet)
    write_episode_table(storage.join(output_dir, EPISODES), results)
    line = f"\nVerdict: {verdict.line}\n" if verdict else ""
    for name, text in (("table.md", to_markdown(table) + line), ("table.json", to_json(table))):
        _write(output_dir, name, text.encode())
        job.run.log_text(name, text)


def metrics(table: list[Row]) -> dict[str, float]:
    """Return the metrics of a table by name, such as ``1-shot/model/mIoU``."""
    values = {}
    for row in table:
        name = f"{row['shots']}-shot/{row['method']}"
        for key, title in (("miou", "mIoU"), ("episode_miou", "per-episode mIoU"), ("fb_iou", "FB-IoU")):
            values[f"{name}/{title}"] = round(float(row[key]), 4)
        if row["method"] == MODEL:
            if row["passes_per_query"] > 1:
                values[f"{name}/passes per query"] = round(float(row["passes_per_query"]), 2)
            for size, part in row["by_size"].items():
                values[f"{name}/mIoU of {size} objects"] = round(float(part["miou"]), 4)
            for key, value in row.get("sureness", {}).items():
                values[f"{name}/sureness.{key}"] = round(float(value), 4)
    return values


def _log_baselines(job: Job, methods: Sequence[str]) -> None:
    """Log every baseline as a run below the evaluation, since a chart of MLflow shows one metric of several runs."""
    runs = [job.run]
    for method in methods:
        run = job.run.child(f"{BASELINE} {method}", tags={METHOD_TAG: method}, find={METHOD_TAG: method})
        run.log_metrics(method_metrics(job.result.metrics, method))
        run.end()
        runs.append(run)
    if methods and not any(run.run_id.startswith(LOCAL) for run in runs):
        job.result.markdown += f"\n[Charts of the model beside its baselines]({comparison_address(runs)})\n"


def _sheets(result: EvaluationResult, reader: ImageReader, visualizations: int) -> dict[str, np.ndarray]:
    """Draw the model's best, worst and random episodes, and the fixed episodes, which do not depend on the model."""
    groups = choose_episodes(result.plan, result.counts[MODEL], visualizations)
    title = f"{result.plan.shots}-shot, plan {result.plan.hash}: {episode_legend(result.plan.shots)}"
    drawing = _Drawing(result, reader)
    selected = [drawing.view(number, group) for group, numbers in groups.items() for number in numbers]
    fixed = [drawing.view(number) for number in random_episode_numbers(result.plan, FIXED_EPISODES)]
    return {
        f"episodes-{result.plan.shots}shot.png": episode_sheet(selected, title=title),
        f"fixed-{result.plan.shots}shot.png": episode_sheet(fixed, title=title),
    }


class _Drawing:
    """Reads the pictures of the episodes to draw."""

    def __init__(self, result: EvaluationResult, reader: ImageReader):
        self.result, self.reader = result, reader
        self.ious = episode_ious(result.counts[MODEL])
        self.index = {episode.number: index for index, episode in enumerate(result.plan)}

    def view(self, number: int, group: str = "") -> EpisodeView:
        """Return an episode ready to draw, captioned with its group, class and IoU."""
        size, index = self.result.size, self.index[number]
        episode = self.result.plan.episodes[index]
        ids = (episode.query_id, *episode.support_ids)
        pairs = [self.reader.read_binary(image_id, episode.class_id) for image_id in ids]
        (query, truth), *supports = [(image_canvas(rgb, size), mask_canvas(mask, size)) for rgb, mask in pairs]
        name = self.reader.collection.classes.get(episode.class_id, str(episode.class_id))
        prefix = f"{group}: " if group else ""
        return EpisodeView(
            query=query,
            truth=truth,
            prediction=mask_canvas(self.result.predictions[MODEL][number], size),
            supports=supports,
            caption=f"{prefix}{name}  IoU {self.ious[index]:.2f}",
        )


def _write(folder: str, name: str, data: bytes) -> None:
    storage.write_atomically(*storage.resolve(storage.join(folder, name)), data)

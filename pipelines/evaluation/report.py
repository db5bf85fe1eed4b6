"""What an evaluation leaves behind: tables, plans, results per episode, and pictures of episodes."""

import numpy as np

from fss.collection import Collection, ImageReader
from fss.core import storage
from fss.core.config import to_dict
from fss.evaluation.episode_table import write_episode_table
from fss.evaluation.evaluator import EvaluationResult
from fss.evaluation.example_gallery import FIXED_EPISODES, choose_episodes, episode_ious, random_episode_numbers
from fss.evaluation.report import Row, result_rows, to_json, to_markdown, to_text
from fss.images.resize import image_canvas, mask_canvas
from fss.tracking.run import Run
from fss.visualize import EPISODE_LEGEND, EpisodeView, episode_sheet, png_bytes
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.task import MODEL
from pipelines.runtime.result import JobResult

EPISODES = "episodes.parquet"


def write_report(
    config: EvaluateConfig, results: list[EvaluationResult], summary: JobResult, record: Run, home: str
) -> None:
    """Fill the summary, and write everything else into ``home`` and the run."""
    table = result_rows(results, model=MODEL)
    summary.report = to_text(table)
    summary.counts = {"episodes": sum(len(result.plan) for result in results), "classes": len(results[0].plan.classes)}
    summary.counts |= {f"{result.plan.shots}-shot backbone passes": result.passes[MODEL] for result in results}
    summary.metrics = metrics(table)
    summary.outputs = {"results": home}
    for result in results:
        result.plan.save(storage.join(home, f"plan-{result.plan.shots}shot.parquet"))
        if config.visualizations:
            for name, sheet in _sheets(config, result).items():
                _write(home, name, png_bytes(sheet))
                record.log_image(name, sheet)
    write_episode_table(storage.join(home, EPISODES), results)
    _write(home, "table.md", to_markdown(table).encode())
    _write(home, "table.json", to_json(table).encode())
    record.log_text("table.md", to_markdown(table))
    record.log_text("table.json", to_json(table))
    record.log_metrics({name.replace(" ", "_"): value for name, value in summary.metrics.items()})
    summary.write(home)
    record.log_json("summary.json", to_dict(summary))


def metrics(table: list[Row]) -> dict[str, float]:
    """Return the figures of a table by name, for people and MLflow: ``1-shot/model/mIoU``."""
    found = {}
    for row in table:
        name = f"{row['shots']}-shot/{row['method']}"
        for key, title in (("miou", "mIoU"), ("episode_miou", "per-episode mIoU"), ("fb_iou", "FB-IoU")):
            found[f"{name}/{title}"] = round(float(row[key]), 4)
        if row["method"] == MODEL:
            for size, part in row["by_size"].items():
                found[f"{name}/mIoU of {size} objects"] = round(float(part["miou"]), 4)
    return found


def _sheets(config: EvaluateConfig, result: EvaluationResult) -> dict[str, np.ndarray]:
    """Draw the model's best and worst episodes and some at random, and those that are the same for every model."""
    groups = choose_episodes(result.plan, result.counts[MODEL], config.visualizations)
    ends = f"{result.plan.shots}-shot, plan {result.plan.hash}: {EPISODE_LEGEND}"
    chosen = [(group, number) for group, numbers in groups.items() for number in numbers]
    fixed = [("", number) for number in random_episode_numbers(result.plan, FIXED_EPISODES)]
    drawing = _Drawing(config, result)
    return {
        f"episodes-{result.plan.shots}shot.png": episode_sheet([drawing.view(*each) for each in chosen], title=ends),
        f"fixed-{result.plan.shots}shot.png": episode_sheet([drawing.view(*each) for each in fixed], title=ends),
    }


class _Drawing:
    """Reads the pictures of episodes that are drawn."""

    def __init__(self, config: EvaluateConfig, result: EvaluationResult):
        self.result, self.collection = result, Collection.open(config.collection)
        self.reader = ImageReader(self.collection, self.collection.mask_set(config.truth))
        self.ious = episode_ious(result.counts[MODEL])
        self.place = {episode.number: row for row, episode in enumerate(result.plan)}

    def view(self, group: str, number: int) -> EpisodeView:
        """Return an episode ready to draw."""
        size, row = self.result.size, self.place[number]
        episode = self.result.plan.episodes[row]
        names = (episode.query_id, *episode.support_ids)
        pairs = [self.reader.read_binary(name, episode.class_id) for name in names]
        square = [(image_canvas(rgb, size), mask_canvas(mask, size)) for rgb, mask in pairs]
        (query, truth), supports = square[0], square[1:]
        name = self.collection.classes.get(episode.class_id, str(episode.class_id))
        return EpisodeView(
            query=query,
            truth=truth,
            prediction=mask_canvas(self.result.predictions[MODEL][number], size),
            supports=supports,
            caption=f"{group}: {name}  IoU {self.ious[row]:.2f}" if group else f"{name}  IoU {self.ious[row]:.2f}",
        )


def _write(home: str, name: str, data: bytes) -> None:
    storage.write_atomically(*storage.resolve(storage.join(home, name)), data)

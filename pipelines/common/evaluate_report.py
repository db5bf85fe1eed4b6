"""What an evaluation leaves behind: tables, plans, results per episode, and pictures of episodes."""

import numpy as np

from fss.collection import Collection, ImageReader, files
from fss.config import to_dict
from fss.episodes.canvas import image_canvas, mask_canvas
from fss.evaluation.episode_table import write_episode_table
from fss.evaluation.gallery import choose_episodes, episode_ious
from fss.evaluation.report import Row, rows, to_json, to_markdown, to_text
from fss.evaluation.run import EvaluationResult
from fss.figures import EpisodeView, episode_sheet, png_bytes
from fss.tracking import Run
from pipelines.common.evaluate_config import EvaluateConfig
from pipelines.common.evaluate_task import MODEL
from pipelines.common.summary import Summary

EPISODES = "episodes.parquet"


def write_report(
    config: EvaluateConfig, results: list[EvaluationResult], summary: Summary, record: Run, home: str
) -> None:
    """Fill the summary, and write everything else into ``home`` and the run."""
    table = rows(results, model=MODEL)
    summary.report = to_text(table)
    summary.counts = {"episodes": sum(len(result.plan) for result in results), "classes": len(results[0].plan.classes)}
    summary.counts |= {f"{result.plan.shots}-shot backbone passes": result.passes[MODEL] for result in results}
    summary.figures = figures(table)
    summary.outputs = {"results": home}
    for result in results:
        result.plan.save(files.join(home, f"plan-{result.plan.shots}shot.parquet"))
        if config.figures:
            sheet = _sheet(config, result)
            _write(home, f"episodes-{result.plan.shots}shot.png", png_bytes(sheet))
            record.log_figure(f"episodes-{result.plan.shots}shot.png", sheet)
    write_episode_table(files.join(home, EPISODES), results)
    _write(home, "table.md", to_markdown(table).encode())
    _write(home, "table.json", to_json(table).encode())
    record.log_text("table.md", to_markdown(table))
    record.log_text("table.json", to_json(table))
    record.log_metrics({name.replace(" ", "_"): value for name, value in summary.figures.items()})
    summary.write(home)
    record.log_json("summary.json", to_dict(summary))


def figures(table: list[Row]) -> dict[str, float]:
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


def _sheet(config: EvaluateConfig, result: EvaluationResult) -> np.ndarray:
    """Draw the model's best and worst episodes and some at random."""
    collection = Collection.open(config.collection)
    reader = ImageReader(collection, collection.mask_set(config.truth))
    ious = episode_ious(result.counts[MODEL])
    place = {episode.number: row for row, episode in enumerate(result.plan)}
    views = []
    for group, numbers in choose_episodes(result.plan, result.counts[MODEL], config.figures).items():
        for number in numbers:
            episode = result.plan.episodes[place[number]]
            pairs = [reader.read_binary(name, episode.class_id) for name in (episode.query_id, *episode.support_ids)]
            square = [(image_canvas(rgb, result.size), mask_canvas(mask, result.size)) for rgb, mask in pairs]
            (query, truth), supports = square[0], square[1:]
            prediction = mask_canvas(result.kept[MODEL][number], result.size)
            name = collection.classes.get(episode.class_id, str(episode.class_id))
            caption = f"{group}: {name}  IoU {ious[place[number]]:.2f}"
            views.append(
                EpisodeView(query=query, truth=truth, prediction=prediction, supports=supports, caption=caption)
            )
    return episode_sheet(views, title=f"{result.plan.shots}-shot, plan {result.plan.hash}: support, truth, prediction")


def _write(home: str, name: str, data: bytes) -> None:
    files.write_atomically(*files.resolve(files.join(home, name)), data)

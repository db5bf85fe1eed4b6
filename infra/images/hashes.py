"""Writes hashes/*.txt: every package of the images with its version and the SHA-256 of its wheel for Linux on x86-64.

    python3.11 infra/images/hashes.py    # on Linux on x86-64, as in the images; after a change of constraints.txt

pip resolves the packages with the constraints and reports the hashes without installing anything. The files name no
address: pip takes the files from wherever it is set up to, and refuses one with another hash.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CUDA = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-.*")
"""Packages that the image without CUDA has in other builds, or not at all."""
TOOLS = ("pip", "setuptools", "wheel")
SERVER = ("mlflow", "boto3", "flask-wtf", "psycopg[binary]")


def resolve(*wanted: str, constraints: str) -> dict[str, str]:
    """Return a line with version and hash for each package that ``wanted`` needs, by name."""
    with tempfile.TemporaryDirectory() as folder:
        report, file = Path(folder) / "report.json", Path(folder) / "constraints.txt"
        file.write_text(constraints)
        words = ["install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report), "-c", str(file)]
        subprocess.run([sys.executable, "-m", "pip", *words, *wanted], check=True)
        packages = json.loads(report.read_text())["install"]
    lines = {}
    for package in packages:
        hashes = package["download_info"].get("archive_info", {}).get("hashes")
        if hashes:  # the project itself is a folder
            name = re.sub(r"[-_.]+", "-", package["metadata"]["name"]).lower()
            lines[name] = f"{name}=={package['metadata']['version']} --hash=sha256:{hashes['sha256']}\n"
    return lines


def main() -> None:
    """Resolve the packages of the Ray images and of the tracking server, and write the files."""
    tested = (ROOT / "constraints.txt").read_text()
    ray = resolve(f"{ROOT}[all]", *TOOLS, constraints=tested)
    server = resolve(*SERVER, constraints=tested + (HERE / "mlflow.txt").read_text())
    cuda = {name for name in ray if CUDA.fullmatch(name)}
    for file, lines in {
        "cuda": [ray[name] for name in sorted(cuda)],
        "ray": [ray[name] for name in sorted(ray.keys() - cuda)],
        "mlflow": [server[name] for name in sorted(server)],
    }.items():
        (HERE / f"hashes/{file}.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()

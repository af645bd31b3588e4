"""Check what this machine offers a run, and name fixes."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.names import list_recipes
from harness.core.environment import PACKAGES, default_threads, gpu_name, installed_version
from harness.core.formatting import format_bytes
from harness.core.paths import database_path, database_url, existing_parent
from harness.errors import InputError
from harness.llm.keys import read_key
from harness.store.opening import open_store
from rewards.isolation import UNSAFE, probe_sandbox

LEAST_DISK = 2 * 2**30
LEAST_MEMORY = 4 * 2**30
LEAST_CPU_S, LEAST_ADDRESS = 60, 2**30
"""Of this process, below which torch ends it: seconds on the processor, bytes of address space."""

KEYS = {"ANTHROPIC_API_KEY": "models anthropic:MODEL", "OPENAI_API_KEY": "models openai:MODEL"}


@dataclass(frozen=True)
class MachineCheck:
    """One thing looked at; ``mend`` is said only where it is not ``ok``."""

    what: str
    found: str
    ok: bool = True
    mend: str = ""


def examine(db: str | None, out: str) -> list[MachineCheck]:
    """Run every check of this machine; none raises."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {name: installed_version(name) for name in PACKAGES}
    missing = [name for name, found in versions.items() if found is None]
    recipes = [f"{name}: {title}" for name, title in list_recipes().items()]
    findings = [
        MachineCheck("python", platform.python_version(), sys.version_info >= (3, 11), "use Python 3.11 or newer"),
        MachineCheck(
            "packages",
            ", ".join(f"{name} {found or 'missing'}" for name, found in versions.items()),
            not missing,
            f"pip install {' '.join(missing)}",
        ),
        MachineCheck("cores", f"{cores}; a run uses {default_threads()} threads (OMP_NUM_THREADS, model.threads)"),
        MachineCheck("memory", format_bytes(memory), memory >= LEAST_MEMORY, "take a small model and micro_batch"),
        _gpu(),
        _disk(out),
        _database(db, out),
        _sandbox(),
        MachineCheck("recipes", "\n".join(recipes) or "none", bool(recipes), "install the package again"),
        _llm_key(),
    ]
    return [replace(finding, mend="") if finding.ok else finding for finding in findings]


def _gpu() -> MachineCheck:
    """Check what torch sees; only here it is loaded, which a limit of this process may not allow."""
    for limit, letter, least in ((resource.RLIMIT_CPU, "t", LEAST_CPU_S), (resource.RLIMIT_AS, "v", LEAST_ADDRESS)):
        if 0 <= resource.getrlimit(limit)[0] < least:
            return MachineCheck("gpu", "not looked for", False, f"ulimit -{letter} is too low to load torch: raise it")
    try:
        return MachineCheck("gpu", gpu_name() or "none: the run uses the processor")
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        mend = "do what it says" if isinstance(error, OSError) else "raise ulimit -v, or install torch again"
        return MachineCheck("gpu", f"torch cannot be loaded: {said}", False, mend)


def _sandbox() -> MachineCheck:
    """Check what would confine the programs that rewards.code runs."""
    found = probe_sandbox()
    if found.refusal:
        return MachineCheck("code sandbox", "none: rewards.code runs no program here", False, found.refusal)
    layers = f"tier {found.tier}, Landlock {found.landlock or 'missing'}"
    tried = f"{len(found.attempts)} attempts to get out failed" if not found.escapes else f"{found.escapes[0]} got out"
    unsafe = found.tier not in ("A", "B") or bool(found.escapes)
    return MachineCheck("code sandbox", f"{layers}; {tried}", not unsafe, f"{UNSAFE}=1 is set: programs can get out")


def _llm_key() -> MachineCheck:
    found = []
    for variable, models in KEYS.items():
        try:
            found.append(f"{variable} is set" if read_key(variable) else f"{variable} is not set: {models} need it")
        except InputError as error:
            return MachineCheck("LLM key", str(error), False, "set it again")
    return MachineCheck("LLM key", "; ".join(found))


def _disk(out: str) -> MachineCheck:
    place = existing_parent(Path(out) / "any run")
    free = shutil.disk_usage(place).free
    return MachineCheck("disk", f"{format_bytes(free)} free at {place}", free >= LEAST_DISK, "free some, or use --out")


def _database(db: str | None, out: str) -> MachineCheck:
    url = database_url(out, db)
    path = database_path(url)
    if not path.exists():
        place = existing_parent(path)
        return MachineCheck(
            "database", f"none yet, will be {path}", os.access(place, os.W_OK), f"{place} is not writable"
        )
    try:
        return MachineCheck("database", f"{path} with {len(open_store(url).list_runs())} runs")
    except InputError as error:
        return MachineCheck("database", str(path), False, str(error))

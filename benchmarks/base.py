"""Another revision of fastrnn, built into a folder of its own: what `run.py --base GIT_REF` compares with."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from benchmarks.native import BUILD

ROOT = Path(__file__).resolve().parents[1]


class CannotBuild(RuntimeError):
    """The revision does not exist or does not build; the text says which."""


def _git(root: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True)
    if done.returncode:
        raise CannotBuild(done.stderr.decode(errors="replace").strip())
    return done.stdout


def commit_of(ref: str, root: Path = ROOT) -> str:
    """Full hash of the commit that `ref` names. Raises CannotBuild."""
    return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").decode().strip()


def build(ref: str, root: Path = ROOT, folder: Path = BUILD) -> Path:
    """The folder to put first on PYTHONPATH; built once a commit. Raises CannotBuild."""
    try:
        commit = commit_of(ref, root)
    except CannotBuild:
        raise CannotBuild(f"no commit is named {ref}") from None
    site = folder / f"base-{commit[:12]}"
    if site.exists():
        return site
    with tempfile.TemporaryDirectory(prefix="fastrnn-base-") as temporary:
        source, built = Path(temporary, "source"), Path(temporary, "site")
        with tarfile.open(fileobj=io.BytesIO(_git(root, "archive", commit))) as archive:
            archive.extractall(source, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(built), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CannotBuild(f"{ref} does not build: {done.stderr.strip()[-800:]}")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(built, site)
    return site

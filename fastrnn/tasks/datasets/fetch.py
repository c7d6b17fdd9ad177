"""Downloads: kept apart until whole, continued where they broke off, compared with what is known of them."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

from fastrnn.info import version
from fastrnn.tasks.datasets.sources import Source
from fastrnn.tasks.errors import UserError
from fastrnn.tasks.run import Run

__all__ = ["RECORD", "fetch"]

RECORD = "fetched.json"
"""Beside the archive: where it came from, its size and its SHA-256."""

TIMEOUT = 30


def fetch(source: Source, out: Path) -> tuple[str, dict[str, Any]]:
    """Bring `source` into the folder `out`; gives the command to go on with, and the record of the archive.

    An archive that is there already is not fetched again. Where no checksum is known ahead, the one of the first
    fetch is recorded and held to from then on. Raises `UserError` where the network or the server fails, or the
    archive is not what it should be.
    """
    folder, name = Run.beside(out), source.url.rsplit("/", 1)[-1]
    record = out / RECORD
    known = source.checksum
    if known is None and record.is_file():
        known = f"sha256:{json.loads(record.read_text())['sha256']}"
    pooch.get_logger().setLevel("ERROR")
    try:
        path = Path(pooch.retrieve(source.url, known, fname=name, path=out, downloader=_download))
    except requests.RequestException as error:
        raise UserError(f"cannot fetch {source.url}: {_reason(error)}") from error
    except ValueError as error:  # the checksum
        raise UserError(f"{source.url} is not the archive that was expected ({known}): not kept") from error
    except OSError as error:
        raise UserError(f"cannot write into {out}: {error.strerror or error}") from error
    written = {"url": source.url, "bytes": path.stat().st_size, "sha256": pooch.file_hash(path)}
    try:
        with zipfile.ZipFile(path) as archive:
            command = source.prepare(archive, folder)
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and fetch again") from error
    folder.write_json(RECORD, written)
    return command.format(folder=out), written


def _download(url: str, output_file: Any, pooch_: Any) -> None:
    """`url` into `output_file`, by way of a file NAME.part beside the archive that the next try continues."""
    part = Path(output_file).parent / f"{url.rsplit('/', 1)[-1]}.part"
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"fastrnn/{version()}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing is left to send
            chunks: Iterable[bytes] = ()
        else:
            answer.raise_for_status()
            start = start if answer.status_code == 206 else 0
            chunks = answer.iter_content(1 << 16)
        size = int(answer.headers.get("Content-Length", 0)) + start or None
        with part.open("ab" if start else "wb") as file, tqdm(
            desc=part.stem, total=size, initial=start, unit="B", unit_scale=True, leave=False, disable=None
        ) as bar:  # fmt: skip
            for chunk in chunks:
                file.write(chunk)
                bar.update(len(chunk))
    if answer.status_code != 416 and size and part.stat().st_size < size:
        raise requests.ConnectionError("the connection broke off")
    shutil.move(part, output_file)


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server does not answer; the next try continues"
    return "no connection (is there a network?); the next try continues what has come"

"""The folder RUN: whole files only, one process at a time, and clear words about any other folder."""

import errno
import json
import os

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.run import FORMAT, Run

STATE = {"weights": torch.arange(5.0), "list": [{"loss": 0.5}], "epoch": 3, "best": None}


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", "names", {"options": {}}) as made:
        yield made


def test_a_state_comes_back_and_needs_no_code(run):
    assert run.read_state("model.pt") is None
    file = run.write_state("model.pt", STATE)
    back = run.read_state("model.pt")
    assert torch.equal(back.pop("weights"), STATE["weights"])
    assert back == {key: value for key, value in STATE.items() if key != "weights"}
    assert torch.load(file, weights_only=True).keys() == {*STATE, "format"}


def test_code_in_a_checkpoint_is_not_run(run, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save(Evil(), run.path / "model.pt")
    with pytest.raises(UserError, match="is damaged and cannot be loaded"):
        run.read_state("model.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_half_written_checkpoint_is_said_to_be_damaged(run, keep):
    file = run.write_state("model.pt", STATE)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model\.pt is damaged"):
        run.read_state("model.pt")


def test_a_full_disk_loses_nothing_saved_before(run, monkeypatch):
    file = run.write_state("model.pt", STATE)
    before = file.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*model\.pt: No space left on device; what was saved before"):
        run.write_state("model.pt", {**STATE, "epoch": 4})
    assert file.read_bytes() == before
    assert [f.name for f in run.path.iterdir() if f.name.endswith(".tmp")] == []


def test_a_write_is_flushed_before_it_replaces_the_old_file(run, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("flush"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    run.write_json("x.json", 1)
    assert order == ["flush", "replace"]


def test_json_keeps_japanese_readable(run):
    assert "高田馬場" in run.write_json("x.json", {"名": "高田馬場"}).read_text("utf-8")


def test_two_runs_into_one_folder(run):
    with pytest.raises(UserError, match="another process trains into"):
        Run.create(run.path, "names", {})
    with pytest.raises(UserError, match="another process trains into"):
        Run.resume(run.path, "names")
    assert Run.open(run.path, "names").config == run.config, "reading is always allowed"
    run.close()
    with pytest.raises(UserError, match="holds a run already: add --resume"):
        Run.create(run.path, "names", {})
    Run.resume(run.path, "names").close()
    Run.resume(run.path, "names").close()


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        Run.create(tmp_path, "names", {})
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_resuming_clears_what_a_killed_write_left(run):
    (run.path / ".model.pt.tmp").write_bytes(b"half")
    run.close()
    Run.resume(run.path, "names").close()
    assert not (run.path / ".model.pt.tmp").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": "translate"}, "is a run of the task translate, not of names: use fastrnn translate"),
        ({"format": FORMAT + 1, "fastrnn": "9.9"}, f"written by fastrnn 9.9 in format {FORMAT + 1}"),
        ({"format": None}, "in format None"),
    ],
)
def test_a_run_of_another_task_or_format(run, change, says):
    run.write_json("config.json", {**run.config, **change})
    with pytest.raises(UserError) as error:
        Run.open(run.path, "names")
    assert says in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\x00", b'{"task": "names"}'])
def test_a_damaged_config_is_said_to_be_so(run, content):
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        Run.open(run.path, "names")


def test_no_run_at_all(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="is not a run"):
            Run.open(path, "names")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        Run.create(tmp_path / "file" / "run", "names", {})


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def denied(*_):  # not by the folder's mode, which does not stop root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(UserError, match=r"cannot write into .*: Permission denied"):
        Run.create(tmp_path, "names", {})


def test_the_config_says_what_wrote_it(run):
    saved = json.loads((run.path / "config.json").read_text("utf-8"))
    assert (saved["task"], saved["format"]) == ("names", FORMAT) and saved["fastrnn"]


def test_a_config_without_an_entry_is_of_another_version(run):
    run.write_json("config.json", {**run.config, "options": {"cell": "gru"}})
    options = Run.open(run.path, "names").config["options"]
    assert options["cell"] == "gru" and options.get("hidden") is None
    with pytest.raises(UserError, match=r"config\.json is damaged, or of another version: it has no hidden"):
        options["hidden"]

"""`fastrnn data`: sources, downloads against a server on this machine, and checks of files."""

import hashlib
import http.server
import io
import json
import threading
import zipfile

import pytest

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from small_names import write_classes
from small_news import line, write_news

from fastrnn.tasks.datasets import fetch as fetching
from fastrnn.tasks.datasets.sources import SOURCES, plain


def archive(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, text in files.items():
            made.writestr(name.replace("__", "/"), text)
    return buffer.getvalue()


@pytest.fixture
def server():
    """A server of `content`, which understands ranges, notes them, and breaks off after `limit` bytes."""

    class Handler(http.server.BaseHTTPRequestHandler):
        content, limit, asked = b"", None, []

        def do_GET(self):
            start = self.headers.get("Range", "")
            self.asked.append(start)
            begin = int(start.removeprefix("bytes=").rstrip("-")) if start else 0
            rest = self.content[begin:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: self.limit])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        Handler.url = f"http://127.0.0.1:{running.server_address[1]}/some.zip"
        yield Handler
        running.shutdown()


@pytest.fixture
def source(server, monkeypatch):
    """Put the server in the place of a source."""

    def use(name, content, checksum=None):
        server.content = content
        changed = {**vars(SOURCES[name]), "url": server.url, "checksum": checksum}
        monkeypatch.setitem(SOURCES, name, type(SOURCES[name])(**changed))

    return use


def test_list_names_every_source(invoke):
    result = invoke("data", "list")
    assert result.exit_code == 0
    for name, source in SOURCES.items():
        assert f"{name}: " in result.stdout and source.url in result.stdout and source.licence in result.stdout
    assert "542ccefacc6c27f945fb54453812b3cd" in result.stdout and "checksum not pinned" in result.stdout


def test_fetch_makes_ready_and_records(invoke, source, server, tmp_path):
    rows = [line(n, f"Oil {n}", "b").replace("Press", "Reuters" if n % 2 else "Others") for n in range(40)]
    content = archive(**{"newsCorpora.csv": "".join(rows)})
    source("news", content)
    result = invoke("data", "fetch", "news", "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "new" / "fetched.json").read_text())
    assert record == {"url": server.url, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert f"fastrnn news train --data {tmp_path / 'new'}" in result.stdout
    checked = invoke("data", "check", tmp_path / "new", "--as", "news")
    assert checked.stdout.endswith("train 16, valid 2, test 2 headlines\n"), "the five publishers' only, 80/10/10"
    assert invoke("data", "fetch", "news", "--out", tmp_path / "new").exit_code == 0
    assert len(server.asked) == 1, "what is there is not fetched again"


def test_a_broken_download_goes_on_where_it_broke_off(refused, invoke, source, server, tmp_path):
    content = archive(jpn_txt="x" * 300_000).replace(b"jpn_txt", b"jpn.txt")
    source("jpn", content)
    server.limit = 200_000
    assert "the next try continues" in refused("data", "fetch", "jpn", "--out", tmp_path)
    came = (tmp_path / "some.zip.part").stat().st_size
    assert 100_000 < came <= 200_000 and not (tmp_path / "some.zip").exists()
    server.limit = None
    assert invoke("data", "fetch", "jpn", "--out", tmp_path).exit_code == 0
    assert server.asked[-1] == f"bytes={came}-" and (tmp_path / "some.zip").read_bytes() == content
    assert not (tmp_path / "some.zip.part").exists() and (tmp_path / "jpn.txt").stat().st_size == 300_000


def test_an_archive_that_is_not_the_right_one(refused, source, tmp_path):
    source("jpn", archive(other="x"))
    assert "holds no jpn.txt" in refused("data", "fetch", "jpn", "--out", tmp_path / "a")
    source("jpn", b"<html>gone</html>")
    assert "is damaged" in refused("data", "fetch", "jpn", "--out", tmp_path / "b")
    source("wikitext2", archive(other="x"), SOURCES["wikitext2"].checksum)
    assert "is not the archive that was expected" in refused("data", "fetch", "wikitext2", "--out", tmp_path / "c")
    assert not (tmp_path / "c" / "some.zip").exists()


def test_without_a_network(refused, monkeypatch, tmp_path):
    def offline(*_, **__):
        raise fetching.requests.ConnectionError("no route")

    monkeypatch.setattr(fetching.requests, "get", offline)
    assert "no connection (is there a network?)" in refused("data", "fetch", "neko", "--out", tmp_path)


def test_aozoras_notation_is_taken_off():
    text = (
        "吾輩は猫である\r\n夏目漱石\r\n\r\n" + "-" * 55 + "\r\n《》：ルビ\r\n" + "-" * 55 + "\r\n"
        "［＃８字下げ］一［＃「一」は中見出し］\r\n\r\n　吾輩《わがはい》は｜猫《ねこ》である。名前はまだ無い。\r\n"
        "「そうか。」と云った。\r\n\r\n底本：「全集」\r\n"
    )
    assert plain(text) == ["一", "吾輩は猫である。", "名前はまだ無い。", "「そうか。」", "と云った。"]


def test_check_reads_as_the_task_does(invoke, refused, tmp_path):
    write_classes(tmp_path / "names")
    assert "3 classes" in invoke("data", "check", tmp_path / "names", "--as", "names").stdout
    news = write_news(tmp_path / "news")
    assert "train 96, valid 24, test 24" in invoke("data", "check", news, "--as", "news").stdout
    assert "96 headlines" in invoke("data", "check", news / "train.txt", "--as", "news").stdout
    pairs = tmp_path / "jpn.txt"
    pairs.write_text("Go.\t行け。\nHi.\tやあ。\tCC-BY\nhalf\n", "utf-8")
    assert "line 3: 1 columns, 2 are needed" in refused("data", "check", pairs, "--as", "jpn")
    assert "3 lines" in invoke("data", "check", pairs, "--as", "lm").stdout
    pairs.write_bytes("é\n".encode("latin-1"))
    assert "line 1: not UTF-8" in refused("data", "check", pairs, "--as", "lm")
    assert "no such file" in refused("data", "check", tmp_path / "absent", "--as", "lm")

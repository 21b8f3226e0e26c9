# SPDX-License-Identifier: Apache-2.0
"""Fetching a model from a server on this machine: the whole file or none."""

import hashlib
import http.server
import socket
import threading

import pytest
from outcomes.refusal import refusal
from outcomes.written_files import files_in
from watchers.stops_after import StopsAfter
from watchers.watcher import Watcher

from ProstateXferLib.checkpoints import download
from ProstateXferLib.checkpoints.download import fetch_model
from ProstateXferLib.checkpoints.registry import KnownModel
from ProstateXferLib.errors import CancelledError, ProstateXferError

CONTENT = bytes(range(256)) * 400


class Handler(http.server.BaseHTTPRequestHandler):
    """One path for each way in which a server can behave."""

    protocol_version = "HTTP/1.1"
    close_connection = True

    def do_GET(self):
        self.server.asked.append(self.path)
        getattr(self, self.path.strip("/").replace("-", "_"))()
        self.close_connection = True

    def log_message(self, *args):
        """Not on the tests' stderr."""

    def _begin(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def good(self):
        self._begin(Content_Length=len(CONTENT))
        self.wfile.write(CONTENT)

    def without_length(self):
        self._begin(Connection="close")
        self.wfile.write(CONTENT)

    def moved(self):
        self._begin(302, Location="/good", Content_Length=0)

    def missing(self):
        self.send_error(404)

    def broken(self):
        self._begin(Content_Length=len(CONTENT))
        self.wfile.write(CONTENT[: len(CONTENT) // 2])

    def broken_chunks(self):
        self._begin(Transfer_Encoding="chunked")
        self.wfile.write(b"1000\r\n" + CONTENT[:100])

    def nonsense(self):
        self.wfile.write(b"this is no HTTP\r\n\r\n")

    def odd_length(self):
        self._begin(Content_Length="many")
        self.wfile.write(CONTENT)

    def login_page(self):
        self._begin(Content_Length=6)
        self.wfile.write(b"<html>")


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's models folder, not made yet; the proxies lead nowhere, but are not asked for this machine."""
    monkeypatch.setenv("PROSTATEXFER_MODELS", str(tmp_path / "own" / "models"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    return tmp_path / "own" / "models"


def model(server, path="good", content=CONTENT, **changes):
    values = {
        "name": "gland",
        "task": "segmentation",
        "title": "a test model",
        "licence": "Apache-2.0",
        "file": "gland.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "url": f"http://127.0.0.1:{server.server_port}/{path}",
    }
    return KnownModel(**{**values, **changes})


def fetch_refusal(known, folder, progress=None):
    sentence = refusal(fetch_model, known, progress)
    assert files_in(folder) == []
    return sentence


@pytest.mark.parametrize("path", ["good", "without-length", "moved"])
def test_a_good_file_arrives_whole_in_the_users_folder(server, folder, path):
    fetched = fetch_model(model(server, path))
    assert fetched == folder / "gland.safetensors"
    assert fetched.read_bytes() == CONTENT
    assert files_in(folder) == ["gland.safetensors"]
    assert model(server).path() == fetched


def test_a_checksum_in_capitals_is_the_same_checksum(server, folder):
    assert fetch_model(model(server, sha256=hashlib.sha256(CONTENT).hexdigest().upper())).read_bytes() == CONTENT


def test_progress_runs_from_nothing_to_all(server, folder, monkeypatch):
    monkeypatch.setattr(download, "_CHUNK", 10_000)
    watcher = Watcher()
    fetch_model(model(server), watcher)
    seen = watcher.fractions
    assert len(seen) > 5 and seen == sorted(seen) and seen[-1] == 1
    assert watcher.warnings == []


@pytest.mark.parametrize("path", ["good", "login-page"])
def test_a_file_with_another_checksum_is_discarded(server, folder, path):
    told = fetch_refusal(model(server, path, content=b"what was published"), folder)
    assert "it was discarded" in told and hashlib.sha256(b"what was published").hexdigest()[:12] in told


def test_an_older_file_is_kept_when_a_new_one_cannot_be_had(server, folder):
    fetch_model(model(server))
    for path in ("broken", "missing", "login-page"):
        with pytest.raises(ProstateXferError):
            fetch_model(model(server, path))
    assert files_in(folder) == ["gland.safetensors"]
    assert (folder / "gland.safetensors").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("missing", "Not Found"),
        ("broken", "broke off after 51200 of 102400 bytes: try again"),
        ("broken-chunks", "could not be fetched"),
        ("nonsense", "could not be fetched"),
    ],
)
def test_trouble_with_the_server_is_one_sentence(server, folder, path, told):
    assert told in fetch_refusal(model(server, path), folder)


def test_a_length_that_is_no_number_does_not_matter(server, folder):
    try:
        assert fetch_model(model(server, "odd-length")).read_bytes() == CONTENT
    except ProstateXferError:  # a stricter http.client is right, too
        assert files_in(folder) == []


def test_no_network_is_one_sentence_with_what_to_do(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: nobody answers there
        url = f"http://127.0.0.1:{free.getsockname()[1]}/good"
        known = KnownModel("gland", "encoder", "", "", file="gland.safetensors", sha256="0", url=url)
        told = fetch_refusal(known, folder)
    assert "check the network or proxy, or put the file into" in told and str(folder) in told and ".gland" not in told


def test_a_stop_leaves_nothing_behind(server, folder, monkeypatch):
    monkeypatch.setattr(download, "_CHUNK", 10_000)

    with pytest.raises(CancelledError):
        fetch_model(model(server), StopsAfter(3))
    assert files_in(folder) == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gland", "//127.0.0.1/x"])
def test_nothing_but_the_web_is_asked(server, folder, url):
    assert "is no web address" in fetch_refusal(model(server, url=url), folder)


@pytest.mark.parametrize("url", ["http://", "http://[::1/x", "http://127.0.0.1:port/x"])
def test_an_address_that_is_none_is_one_sentence(server, folder, url):
    assert "could not be fetched" in fetch_refusal(model(server, url=url), folder)


def test_a_model_without_an_address_says_how_to_get_it(server, folder):
    told = fetch_refusal(model(server, url=None, obtain="ask Meta for dinov3.pth and import it"), folder)
    assert told == "'gland' cannot be fetched: ask Meta for dinov3.pth and import it"
    assert server.asked == []


def test_a_models_folder_that_cannot_be_made_is_one_sentence(server, folder, tmp_path):
    (tmp_path / "own").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(ProstateXferError, match=r"cannot be made .*: choose another with PROSTATEXFER_MODELS"):
        fetch_model(model(server))


def test_nothing_but_the_file_is_asked_for(server, folder):
    fetch_model(model(server))
    assert server.asked == ["/good"]

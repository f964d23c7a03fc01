"""Task data are found, fetched whole and checked; every failure is one line on what to do."""

import functools
import hashlib
import http.server
import pathlib
import threading
from collections.abc import Iterator

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import published_files
from r1ci_jax.tasks.published_files import Remote

CONTENT = b'{"examples": []}'
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Iterator[str]:
    """A web server with one file; yields its address."""
    root = tmp_path / "site"
    root.mkdir()
    (root / "a.json").write_bytes(CONTENT)
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published_files, "_PAUSE_SECONDS", 0)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text and published_files.FETCH in text
    return text


def test_order_of_places(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(published_files.VARIABLE, raising=False)
    assert published_files.data_folder() == tmp_path / "cache" / "r1ci_jax" / "tasks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert published_files.data_folder() == pathlib.Path.home() / ".cache" / "r1ci_jax" / "tasks"
    monkeypatch.setenv(published_files.VARIABLE, str(tmp_path / "set"))
    assert published_files.data_folder() == tmp_path / "set"
    assert published_files.data_folder(tmp_path / "given") == tmp_path / "given"
    published_files.choose_folder(tmp_path)
    assert published_files.data_folder() == tmp_path
    with pytest.raises(UserError, match="no data folder"):
        published_files.choose_folder(tmp_path / "absent")


def test_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="is missing") as error:
        published_files.read("bbh/a.json", tmp_path)
    assert "R1CI_DATA" in one_line(error)
    published_files.write("bbh/a.json", tmp_path, CONTENT)
    assert published_files.read("bbh/a.json", tmp_path, sha256=SHA256) == CONTENT
    with pytest.raises(UserError, match="not the published file") as error:
        published_files.read("bbh/a.json", tmp_path, sha256="0" * 64)
    one_line(error)
    with pytest.raises(UserError, match="cannot read") as error:
        published_files.read("bbh", tmp_path)
    one_line(error)


def test_fetch_over_http(site: str, tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    remote = Remote(path="bbh/a.json", url=f"{site}/a.json", sha256=SHA256)
    assert list(published_files.fetch_all([remote, remote], data)) == [
        (remote, True),
        (remote, False),
    ]
    assert published_files.read(remote.path, data, sha256=SHA256) == CONTENT
    (data / remote.path).write_bytes(b"spoilt")
    assert published_files.fetch(remote, data)
    assert [place.name for place in (data / "bbh").iterdir()] == ["a.json"]
    assert (data / remote.path).stat().st_mode & 0o777 == 0o644


def test_fetch_from_a_local_file(tmp_path: pathlib.Path) -> None:
    origin = tmp_path / "origin.json"
    origin.write_bytes(CONTENT)
    remote = Remote(path="a.json", url=origin.as_uri(), sha256=SHA256)
    assert published_files.fetch(remote, tmp_path / "data")
    assert (tmp_path / "data" / "a.json").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("url", "sha256", "why"),
    [
        ("{site}/absent.json", SHA256, "status 404"),
        ("{site}/a.json", "0" * 64, "is not the published file"),
        ("http://127.0.0.1:1/a.json", SHA256, "refused"),
        ("file:///absent/a.json", SHA256, "No such file"),
        ("ftp://127.0.0.1/a.json", SHA256, "not a web address"),
    ],
)
def test_failed_fetches_leave_nothing(
    url: str, sha256: str, why: str, site: str, tmp_path: pathlib.Path
) -> None:
    remote = Remote(path="a.json", url=url.format(site=site), sha256=sha256)
    with pytest.raises(UserError, match=why) as error:
        published_files.fetch(remote, tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data" / "a.json").exists()


class _Flaky(_Quiet):
    """Answers with the statuses of the list, one after the other, before it gives the file."""

    statuses: list[int]

    def do_GET(self) -> None:
        if self.statuses:
            self.send_error(self.statuses.pop(0))
        else:
            super().do_GET()


@pytest.mark.parametrize(
    ("statuses", "tries_left", "said"),
    [
        ([503, 429, 500], 0, None),  # three faults that pass, and the fourth try is right
        ([503, 503, 503, 503, 503], 1, "status 503"),  # no fifth try
        ([404, 503], 1, "status 404"),  # this one does not pass
    ],
)
def test_passing_faults_are_tried_again(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    statuses: list[int],
    tries_left: int,
    said: str | None,
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/a.json").write_bytes(CONTENT)
    _Flaky.statuses = list(statuses)
    handler = functools.partial(_Flaky, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/a.json"
            remote = Remote(path="a.json", url=url, sha256=SHA256)
            if said is None:
                assert published_files.fetch(remote, tmp_path / "data")
                assert (tmp_path / "data/a.json").read_bytes() == CONTENT
            else:
                with pytest.raises(UserError) as error:
                    published_files.fetch(remote, tmp_path / "data")
                assert said in one_line(error)
        finally:
            server.shutdown()
            thread.join()
    assert len(_Flaky.statuses) == tries_left
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == min(3, len(statuses)) * (said != "status 404")
    assert all("; trying again in " in line for line in lines)


def test_an_endless_file_is_refused(
    site: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_files, "_MAX_BYTES", len(CONTENT) - 1)
    remote = Remote(path="a.json", url=f"{site}/a.json", sha256=SHA256)
    with pytest.raises(UserError, match="longer than") as error:
        published_files.fetch(remote, tmp_path)
    one_line(error)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_files.write("a.json", tmp_path, CONTENT)

    def full(self: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        published_files.write("a.json", tmp_path, b"new")
    assert (tmp_path / "a.json").read_bytes() == CONTENT
    assert [place.name for place in tmp_path.iterdir()] == ["a.json"]

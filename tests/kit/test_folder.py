"""Writing the kit into a folder: what is whole, what is kept, what is refused."""

import subprocess
from pathlib import Path

import pytest

from llmstatsd.kit import folder
from llmstatsd.kit.document import Document
from llmstatsd.kit.folder import SUMS, ChangedError, write

RULES = Document("prometheus/rules.yml", "groups: []\n")
ROUTES = Document("routes.yml", "receivers: [\u00fc]\n")
NEW_RULES = Document(RULES.path, "groups: [other]\n")


def texts(where: Path) -> dict[str, str]:
    return {
        path.relative_to(where).as_posix(): path.read_text("utf-8")
        for path in where.rglob("*")
        if path.is_file() and path.name != SUMS
    }


def test_every_document_is_written_with_its_folders(tmp_path: Path) -> None:
    out = tmp_path / "not" / "there"
    written = write([RULES, ROUTES], out)
    assert written.files == [out / RULES.path, out / ROUTES.path]
    assert written.kept == []
    assert texts(out) == dict([RULES, ROUTES])


def test_a_file_can_be_read_by_others_as_any_new_file(tmp_path: Path) -> None:
    write([RULES], tmp_path)
    (tmp_path / "new").touch()
    assert (tmp_path / RULES.path).stat().st_mode == (tmp_path / "new").stat().st_mode


def test_sha256sum_takes_the_sums(tmp_path: Path) -> None:
    write([RULES, ROUTES], tmp_path)
    command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    (tmp_path / ROUTES.path).write_text("changed")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == f"{ROUTES.path}: FAILED\n"


def test_a_second_time_writes_nothing(tmp_path: Path) -> None:
    write([RULES, ROUTES], tmp_path)
    before = (tmp_path / RULES.path).stat().st_ino
    assert write([RULES, ROUTES], tmp_path) == ([], [])
    assert (tmp_path / RULES.path).stat().st_ino == before


def test_a_file_as_it_was_left_is_replaced_by_a_new_document(tmp_path: Path) -> None:
    write([RULES, ROUTES], tmp_path)
    assert write([NEW_RULES, ROUTES], tmp_path).files == [tmp_path / RULES.path]
    assert write([RULES, ROUTES], tmp_path).files == [tmp_path / RULES.path]


def test_a_changed_file_is_kept_while_its_document_is_the_same(tmp_path: Path) -> None:
    write([RULES, ROUTES], tmp_path)
    (tmp_path / ROUTES.path).write_text("mine")
    for rules in (NEW_RULES, RULES):
        written = write([rules, ROUTES], tmp_path)
        assert written == ([tmp_path / RULES.path], [tmp_path / ROUTES.path])
    assert texts(tmp_path)[ROUTES.path] == "mine"


def test_a_new_document_for_a_changed_file_is_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    write([RULES, ROUTES], tmp_path)
    (tmp_path / RULES.path).write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ChangedError) as refused:
        write([NEW_RULES, Document(ROUTES.path, "new\n"), Document("third", "new\n")], tmp_path)
    assert refused.value.paths == [tmp_path / RULES.path]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("sums", [None, "", "no sums\n", f"{'0' * 64}  {RULES.path}\n"], ids=repr)
def test_a_file_that_was_there_before_is_taken_for_changed(
    tmp_path: Path, sums: str | None
) -> None:
    path = tmp_path / RULES.path
    path.parent.mkdir()
    path.write_text("somebody's\n")
    if sums is not None:
        (tmp_path / SUMS).write_text(sums)
    with pytest.raises(ChangedError):
        write([RULES], tmp_path)
    assert path.read_text() == "somebody's\n"


def test_a_file_that_already_holds_the_document_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / RULES.path
    path.parent.mkdir()
    path.write_text(RULES.text)
    assert write([RULES], tmp_path) == ([], [])
    assert write([NEW_RULES], tmp_path).files == [path]


def test_force_replaces_every_changed_file(tmp_path: Path) -> None:
    write([RULES, ROUTES], tmp_path)
    for document in (RULES, ROUTES):
        (tmp_path / document.path).write_text("mine")
    assert len(write([NEW_RULES, ROUTES], tmp_path, force=True).files) == 2
    assert texts(tmp_path) == dict([NEW_RULES, ROUTES])
    assert write([NEW_RULES, ROUTES], tmp_path) == ([], [])


def test_a_deleted_file_comes_back(tmp_path: Path) -> None:
    write([RULES, ROUTES], tmp_path)
    (tmp_path / ROUTES.path).unlink()
    assert write([RULES, ROUTES], tmp_path).files == [tmp_path / ROUTES.path]


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "llmstatsd.toml").write_text("mine")
    write([RULES], tmp_path, force=True)
    assert (tmp_path / "llmstatsd.toml").read_text() == "mine"


def test_a_write_that_fails_leaves_the_old_file_whole_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write([RULES], tmp_path)

    def fill_the_disk(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill_the_disk)
        with pytest.raises(OSError, match="No space"):
            write([NEW_RULES], tmp_path)
    assert texts(tmp_path) == dict([RULES])
    assert write([NEW_RULES], tmp_path).files == [tmp_path / RULES.path]


def test_a_directory_in_the_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ROUTES.path).mkdir()
    with pytest.raises(OSError, match="directory"):
        write([ROUTES], tmp_path, force=True)


def test_no_more_of_the_sums_is_read_than_their_limit(tmp_path: Path) -> None:
    write([RULES], tmp_path)
    known = (tmp_path / SUMS).read_text()
    (tmp_path / SUMS).write_text("#" * folder.SUMS_BYTES_LIMIT + "\n" + known)
    with pytest.raises(ChangedError):
        write([NEW_RULES], tmp_path)

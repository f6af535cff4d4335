"""``schema check``: every change that messages on their way would not survive is found, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from typing_extensions import Required

from safeserial.errors import Misconfigured
from safeserial.schema import SchemaRegistry
from safeserial.schema.derive import document
from safeserial.schema.frozen import Folder, file_name
from safeserial.schema.review import Finding, review

V1: dict[str, Any] = {"cents": int}
V2: dict[str, Any] = {"cents": int, "currency": str}  # needs an upcaster
V3: dict[str, Any] = {"cents": int, "currency": str, "note": (str, "")}  # fits what V2 wrote


class Project:
    """A folder of frozen versions, and code at some version."""

    def __init__(self, path: Path) -> None:
        self.folder = Folder(path / "schemas")
        self.registry = SchemaRegistry()

    def code(
        self, version: int, fields: Any, *, upcast: tuple[int, ...] = (), compatible_from: int | None = None
    ) -> None:
        """Have the code at this version, with upcasters from these."""
        self.registry = SchemaRegistry()
        made: Any = fields
        if isinstance(fields, dict):
            parts = [(name, *part) if isinstance(part, tuple) else (name, part) for name, part in fields.items()]
            made = make_dataclass("Price", parts)
        self.registry.schema("shop.price", version=version, compatible_from=compatible_from)(made)
        for step in upcast:
            self.registry.upcast("shop.price", from_version=step)(lambda old: old)

    def freeze(self) -> None:
        declared = self.registry.find("shop.price")
        assert declared is not None
        self.folder.write("shop.price", declared.version, document(declared))

    def history(self, *versions: Any) -> None:
        """Freeze some versions, one after the other."""
        for number, fields in enumerate(versions, 1):
            self.code(number, fields)
            self.freeze()

    def findings(self) -> list[Finding]:
        return review(self.registry, self.folder.read())

    def only(self) -> Finding:
        (finding,) = self.findings()
        return finding


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_what_is_as_it_was_frozen_is_fine(project: Project) -> None:
    project.history(V1)
    assert project.findings() == []


def test_what_is_not_frozen_is_found(project: Project) -> None:
    project.code(1, V1)
    assert "not frozen" in project.only().problem


def test_a_type_that_changed_without_its_version_is_found_with_the_place(project: Project) -> None:
    project.history(V1)
    project.code(1, V2)
    finding = project.only()
    assert "the type changed and version 1 did not" in finding.problem
    assert "version=2" in finding.fix
    assert "an upcaster from version 1" in finding.fix
    (place,) = finding.differences
    assert (place.path, place.before, place.after, place.breaks) == ("currency", "", '{"type": "string"}', True)
    # Also where old messages fit: files of the same version must not differ from machine to machine.
    project.history(V2)
    project.code(1, V3)
    assert "compatible_from" in project.only().fix


def test_an_upcaster_covers_its_step(project: Project) -> None:
    project.history(V1, V2)
    project.code(2, V2, upcast=(1,))
    assert project.findings() == []


def test_a_version_that_nothing_reads_is_found(project: Project) -> None:
    """Also where it would fit: a running process refuses what it was not told that it may read."""
    project.history(V1, V2)
    project.code(2, V2)
    finding = project.only()
    assert finding.version == 1
    assert "nothing here reads it" in finding.problem
    assert '@upcast("shop.price", from_version=1)' in finding.fix
    assert [one.path for one in finding.differences if one.breaks] == ["currency"]
    project.history(V2, V3)
    project.code(2, V3)
    assert "compatible_from=1" in project.only().fix


def test_what_is_said_to_be_compatible_has_to_be(project: Project) -> None:
    project.history(V2, V3)
    project.code(2, V3, compatible_from=1)
    assert project.findings() == []
    project.history(V1, V2)
    project.code(2, V2, compatible_from=1)
    finding = project.only()
    assert "does not fit the present type" in finding.problem
    assert [one.path for one in finding.differences if one.breaks] == ["currency"]


def test_every_version_is_compared_with_what_reads_it_and_not_only_the_one_before(project: Project) -> None:
    """Each fits the next, and the first does not fit the last: a key went, and came back as something else."""

    class First(TypedDict):
        cents: int
        when: int

    class Second(TypedDict):
        cents: int

    class Third(TypedDict, total=False):
        cents: Required[int]
        when: str

    project.history(First, Second)
    project.code(2, Second, compatible_from=1)
    assert project.findings() == []
    project.code(3, Third, compatible_from=2)
    project.freeze()
    (finding,) = project.findings()
    assert (finding.version, "nothing here reads it" in finding.problem) == (1, True)
    project.code(3, Third, compatible_from=1)
    finding = project.only()
    assert finding.version == 1
    assert [one.path for one in finding.differences if one.breaks] == ["when"]


def test_versions_before_an_upcaster_have_to_fit_what_it_takes(project: Project) -> None:
    # 1 and 2 go to the upcaster from 2 as they are; 3 and the present are of another kind.
    other = {"total": str}
    project.history(V2, V3, other)
    project.code(3, other, upcast=(2,), compatible_from=1)
    assert project.findings() == []
    project.folder = Folder(project.folder.path.with_name("other"))
    project.history(V1, V2, other)
    project.code(3, other, upcast=(2,), compatible_from=1)
    finding = project.only()
    assert finding.version == 1
    assert "does not fit version 2" in finding.problem
    # Without the file of version 2 nobody can say.
    (project.folder.path / file_name("shop.price", 2)).unlink()
    assert "which is not frozen" in project.only().problem


def test_code_that_went_back_is_found(project: Project) -> None:
    project.history(V1, V2)
    project.code(1, V1)
    finding = project.only()
    assert "version 2 is frozen, and the code is at version 1" in finding.problem


def test_what_is_declared_nowhere_any_more_is_found(project: Project) -> None:
    project.history(V1)
    project.registry = SchemaRegistry()
    assert "declared nowhere" in project.only().problem


def test_what_does_not_fit_together_comes_first(project: Project) -> None:
    project.history(V1)
    project.code(5, V3, upcast=(1, 4))
    assert ["gap" in finding.problem for finding in project.findings()] == [True, True]


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("shop.charge", "shop.charge.3.json"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.3.json"),
        (".hidden", "%2Ehidden.3.json"),
        ("a b:c", "a%20b%3Ac.3.json"),
        ("preis.€", "preis.%E2%82%AC.3.json"),
        ("n" * 255, "n" * 200 + "~3bb555e4ed3e8c6e.3.json"),
    ],
)
def test_a_file_has_a_name_that_any_system_takes(name: str, file: str, tmp_path: Path) -> None:
    assert file_name(name, 3) == file
    folder = Folder(tmp_path / "schemas")
    written = folder.write(name, 3, {"x-safeserial": {"schema": name, "version": 3, "kind": "value"}})
    assert written.parent == tmp_path / "schemas"
    assert list(folder.read()) == [name]
    assert [path.name for path in written.parent.iterdir()] == [file]  # and nothing half-written


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "does not say what it is of"),
        ("{}", "does not say"),
        ('{"x-safeserial": {"schema": "a", "version": 0}}', "does not say"),
        ('{"x-safeserial": {"schema": "a", "version": true}}', "does not say"),
        ('{"x-safeserial": {"schema": 3, "version": 1}}', "does not say"),
        ('{"x-safeserial": []}', "does not say"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_path(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.1.json").write_text(text)
    with pytest.raises(Misconfigured, match=told) as caught:
        Folder(tmp_path).read()
    assert str(tmp_path / "a.1.json") in str(caught.value)


def test_two_files_of_one_version_are_told(tmp_path: Path) -> None:
    text = json.dumps({"x-safeserial": {"schema": "a", "version": 1, "kind": "value"}})
    for name in ("a.1.json", "copy.json"):
        (tmp_path / name).write_text(text)
    with pytest.raises(Misconfigured, match=r"as a\.1\.json is"):
        Folder(tmp_path).read()


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert Folder(tmp_path / "absent").read() == {}

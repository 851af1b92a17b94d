"""Whatever happens to a file of a store, ``verify`` names it and readers refuse it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command import run_command
from eegstore import DamageError, InputError, open_store, verify
from eegstore.verification import Damage
from every_kind import PROFILES, build, write_input

ROOT = "zarr.json"
SHARD = "trials/eeg/c/1/0/0"
STRANGER = "does not belong to the store; move it away"
UNREADABLE = Path("/proc/self/mem")  # a regular file whose first byte cannot be read
Figure = Callable[[str, int, int], None]
Stores = Callable[[str], Path]

# The suite goes through some of the files of one store, nightly through all of every profile's.
SCOPES = pytest.mark.parametrize(
    ("profile", "step"),
    [
        ("raw", 5),
        *(
            pytest.param(profile, 1, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])
            for profile in PROFILES
        ),
    ],
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """The store of a codec profile, built once; a test that damages it mends it again."""
    folder = tmp_path_factory.mktemp("stores")
    write_input(folder)

    return functools.cache(functools.partial(build, folder, executor="serial"))


@pytest.fixture
def store(stores: Stores) -> Path:
    return stores("raw")


def files_of(store: Path) -> list[str]:
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())


def documents_of(store: Path) -> list[str]:
    return [name for name in files_of(store) if name.endswith(ROOT)]


@contextlib.contextmanager
def changed(file: Path, change: Callable[[Path], object]) -> Iterator[None]:
    """The file is what ``change`` makes of it while the context lasts."""
    before = file.read_bytes()
    try:
        change(file)
        yield
    finally:
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink(missing_ok=True)
        file.write_bytes(before)


def becomes(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Make something else in a file's place."""

    def replace(file: Path) -> None:
        file.unlink()
        make(file)

    return replace


def rewrite(edit: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(edit(file.read_bytes()))


MUTATIONS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": becomes(b""),
    "cut by a byte": rewrite(lambda content: content[:-1]),
    "cut in half": rewrite(lambda content: content[: len(content) // 2]),
    "cut at its start": rewrite(lambda content: content[1:]),
    "cut to four zeros": becomes(bytes(4)),  # which end in their own crc32c
    "a byte added": rewrite(lambda content: content + b"\0"),
    "a line added": rewrite(lambda content: content + b"\n"),
    "twice itself": rewrite(lambda content: 2 * content),
    "a folder": instead(Path.mkdir),
    "a pipe": instead(os.mkfifo),
    "a link to nothing": instead(lambda file: file.symlink_to("nothing")),
    "a link to itself": instead(lambda file: file.symlink_to(file.name)),
    "a link to a folder": instead(lambda file: file.symlink_to(".")),
    "not readable": instead(lambda file: file.symlink_to(UNREADABLE)),
    "zeros": rewrite(lambda content: bytes(len(content))),
}
KEEP_THE_SIZE = {"zeros"}


def read_everything(store: Path) -> None:
    opened = open_store(store)
    for table in (opened.trials, opened.stimuli):
        assert all(table.coords.values())
        for column in table.values():
            assert len(column[:]) == table.n_rows


def named_by_verify(store: Path, *, deep: bool) -> list[str]:
    try:
        return [damage.file for damage in verify(store, deep=deep)]
    except InputError as error:  # the root document does not say that this is a store of ours
        return [ROOT] if str(store) in str(error) else []


def refusal(store: Path) -> str:
    """What a reader of everything is told; empty where it is told nothing."""
    try:
        read_everything(store)
    except (DamageError, InputError) as error:
        return str(error)
    return ""


def complaints(store: Path, name: str, *, deep_alone: bool = False) -> list[str]:
    """What is wrong with how damage is told; nothing, where the file is named, it alone."""
    found = []
    for deep in [True] if deep_alone else [False, True]:
        named = named_by_verify(store, deep=deep)
        if named != [name]:
            found.append(f"verify(deep={deep}) names {named}")
    said = refusal(store)
    if (str(store) if name == ROOT else name.partition("/c/")[0]) not in said:
        found.append(f"reading says {said!r}")
    return found


def test_a_clean_store_has_no_damage(store: Path) -> None:
    assert verify(store) == []
    assert verify(store, deep=True) == []
    assert verify(str(store), deep=True) == []
    read_everything(store)
    files = files_of(store)
    assert {f"trials/eeg/c/{n}/0/0" for n in range(3)} <= set(files)
    assert {"stimuli/gradients/c/1/0", "trials/subject/c/0", "trials/time/c/0"} <= set(files)


@pytest.mark.promise("P7")
@SCOPES
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_file_that_is_not_what_was_committed_is_named_and_never_read(
    stores: Stores, profile: str, step: int, mutation: str, figure: Figure
) -> None:
    if mutation == "not readable" and not UNREADABLE.exists():
        pytest.skip("no file here whose bytes cannot be read")
    store, names = stores(profile), files_of(stores(profile))
    names = names[[*MUTATIONS].index(mutation) % step :: step]
    wrong = {}
    for name in names:
        wide = re.match(r"trials/(eeg|spectral|temporal)/c/|stimuli/gradients/c/", name)
        with changed(store / name, MUTATIONS[mutation]):
            unseen = bool(wide) and mutation in KEEP_THE_SIZE
            if found := complaints(store, name, deep_alone=unseen):
                wrong[name] = found
    figure("changed files named", len(names) - len(wrong), len(names))
    assert not wrong
    assert verify(store, deep=True) == []


@pytest.mark.promise("P7")
@SCOPES
def test_files_of_equal_size_that_were_swapped_are_named(
    stores: Stores, profile: str, step: int, figure: Figure
) -> None:
    store = stores(profile)
    files = {name: (store / name).read_bytes() for name in files_of(store)}
    pairs = [
        (one, other)
        for one, other in itertools.combinations(files, 2)
        if len(files[one]) == len(files[other]) and files[one] != files[other]
    ]
    assert ("trials/label/c/0", "trials/stimulus/c/0") in pairs
    if profile == "raw":
        assert ("trials/eeg/c/0/0/0", "trials/eeg/c/1/0/0") in pairs
        assert ("digests/trials_eeg/c/0/0", "digests/trials_spectral/c/0/0") in pairs
    wrong = {}
    for one, other in pairs[::step]:
        with (
            changed(store / one, becomes(files[other])),
            changed(store / other, becomes(files[one])),
        ):
            found = {damage.file for damage in verify(store, deep=True)}
            refusal(store)  # a whole shard of the column may be read; nothing else may happen
        if found != {one, other}:
            wrong[one, other] = found
    figure("swapped pairs named", len(pairs[::step]) - len(wrong), len(pairs[::step]))
    assert not wrong


@pytest.mark.promise("P7")
@SCOPES
def test_a_file_of_another_column_in_the_place_of_a_shard_is_refused_or_named(
    stores: Stores, profile: str, step: int, figure: Figure
) -> None:
    store = stores(profile)
    shards = [name for name in files_of(store) if re.search("eeg/c|spectral/c|gradients/c", name)]
    others = [name for name in files_of(store) if not name.endswith(ROOT)]
    pairs = [pair for pair in itertools.product(shards, others) if pair[0] != pair[1]][:: 2 * step]
    wrong = {}
    for shard, other in pairs:
        with changed(store / shard, becomes((store / other).read_bytes())):
            refusal(store)
            named = named_by_verify(store, deep=True)
        if named != [shard]:
            wrong[shard, other] = named
    figure("copies of another file named", len(pairs) - len(wrong), len(pairs))
    assert not wrong


STRANGERS: dict[str, Callable[[Path], object]] = {
    "a": Path.touch,
    ".DS_Store": Path.touch,
    "9": Path.touch,
    "a link": lambda path: path.symlink_to("nothing"),
    "a link to a folder": lambda path: path.symlink_to(".."),
    "a pipe": os.mkfifo,
    "\x1b[31m\n\udcff": Path.touch,
}


@pytest.mark.promise("P7")
@SCOPES
def test_a_file_that_no_build_wrote_is_named_in_any_folder(
    stores: Stores, profile: str, step: int, figure: Figure
) -> None:
    store = stores(profile)
    folders = sorted({(store / name).parent for name in files_of(store)})[::step]
    wrong = {}
    for folder, name in itertools.product(folders, STRANGERS):
        STRANGERS[name](folder / name)
        found = verify(store)
        (folder / name).unlink()
        path = (folder / name).relative_to(store).as_posix()
        if found != [Damage(path, STRANGER)]:
            wrong[path] = found
    figure("added files named", len(folders) * len(STRANGERS) - len(wrong),
           len(folders) * len(STRANGERS))  # fmt: skip
    assert not wrong


def test_a_strange_folder_is_damage_by_the_files_in_it(store: Path) -> None:
    folder = store / "trials" / "new" / "c"
    folder.mkdir(parents=True)
    assert verify(store, deep=True) == []
    (folder / "0").touch()
    assert verify(store) == [Damage("trials/new/c/0", STRANGER)]
    (folder / "0").unlink()
    folder.rmdir()
    folder.parent.rmdir()


def test_what_lies_elsewhere_behind_a_link_counts_as_if_it_were_there(
    store: Path, tmp_path: Path
) -> None:
    shard, array = store / SHARD, store / "trials/spectral"
    array.rename(tmp_path / "spectral")
    array.symlink_to(tmp_path / "spectral")
    with changed(shard, instead(lambda file: file.symlink_to(tmp_path / "shard"))):
        assert named_by_verify(store, deep=False) == [SHARD]
        (tmp_path / "shard").write_bytes((store / "trials/eeg/c/0/0/0").read_bytes())
        assert named_by_verify(store, deep=True) == [SHARD]
    with changed(shard, lambda file: file.rename(tmp_path / "shard")):
        shard.symlink_to(tmp_path / "shard")
        assert verify(store, deep=True) == []
        read_everything(store)
        with changed(tmp_path / "spectral/c/2/0/0", becomes(b"")):
            assert complaints(store, "trials/spectral/c/2/0/0") == []
    array.unlink()
    (tmp_path / "spectral").rename(array)
    assert verify(store, deep=True) == []


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    ("profile", "step"),
    [
        ("raw", 40),
        pytest.param("small", 1, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]),
    ],
)
def test_any_digit_that_is_edited_in_a_document_is_named_on_opening(
    stores: Stores, profile: str, step: int, figure: Figure
) -> None:
    store = stores(profile)
    edits = [
        (name, found.start())
        for name in documents_of(store)
        for found in re.finditer(b"[0-9]", (store / name).read_bytes())
    ][::step]
    assert len(edits) * step > 4000
    wrong = {}
    for name, position in edits:
        content = bytearray((store / name).read_bytes())
        content[position] = b"1234567890"[content[position] - ord("0")]
        with (
            changed(store / name, becomes(bytes(content))),
            pytest.raises((DamageError, InputError)) as refused,
        ):
            open_store(store)
        if (str(store) if name == ROOT else name) not in str(refused.value):
            wrong[name, position] = str(refused.value)
    figure("edited digits named", len(edits) - len(wrong), len(edits))
    assert not wrong


STYLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "without spaces": lambda document: json.dumps(document, separators=(",", ":")),
    "in another order": lambda document: json.dumps(dict(reversed(document.items())), indent=2),
    "with a key more": lambda document: json.dumps({**document, "note": 1}, indent=2),
    "with a key less": lambda document: json.dumps(dict([*document.items()][1:]), indent=2),
    "with an attribute more": lambda document: json.dumps(
        {**document, "attributes": {**document["attributes"], "note": 1}}, indent=2
    ),
}


@pytest.mark.promise("P7")
@pytest.mark.parametrize("style", STYLES)
def test_a_document_that_another_program_wrote_is_named(
    store: Path, style: str, figure: Figure
) -> None:
    names, wrong = documents_of(store), {}
    for name in names:
        text = STYLES[style](json.loads((store / name).read_bytes()))
        with changed(store / name, becomes(text.encode())):
            if found := complaints(store, name):
                wrong[name] = found
    figure("rewritten documents named", len(names) - len(wrong), len(names))
    assert not wrong


VALUES: tuple[Any, ...] = (None, True, -1, 1.5, 10**4000, "", "x", "\ud800", [], {}, [1], {"a": 1})


def places_of(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every value in a JSON document."""
    yield place
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield from places_of(value[key], (*place, key))


def replaced(document: bytes, place: tuple[str | int, ...], value: Any) -> bytes:
    whole = {"": json.loads(document)}
    inside: Any = whole
    path = ("", *place)
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return json.dumps(whole[""], indent=2).encode()


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    "step", [151, pytest.param(1, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])]
)
def test_any_value_in_the_place_of_another_in_the_root_document_is_refused_in_a_line(
    store: Path, step: int, figure: Figure
) -> None:
    content = (store / ROOT).read_bytes()
    edits = [*itertools.product(places_of(json.loads(content)), VALUES)]
    shallow = [edit for edit in edits if len(edit[0]) < 3]
    edits = [*shallow, *[edit for edit in edits if len(edit[0]) >= 3][::step]]
    for place, value in edits:
        edited = replaced(content, place, value)
        with (
            changed(store / ROOT, becomes(edited)),
            pytest.raises((DamageError, InputError)) as refused,
        ):
            open_store(store)
        assert str(store) in str(refused.value)
        assert len(str(refused.value)) < 600
        assert "\n" not in str(refused.value)
    figure("edited values named", len(edits), len(edits))


NO_ROOTS = {
    "no JSON": b"eegstore",
    "not UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"attributes": {"eegstore": {"format": 1}}}'.encode("utf-16"),
    "a list": b"[]",
    "a number": b"1",
    "a number of 5,000 digits": b"1" * 5000,
    "brackets": b"[" * 100_000,
    "keys": b'{"a":' * 100_000,
    "no attributes": b'{"zarr_format": 3, "node_type": "group"}',
    "deep documents": b'{"attributes": {"eegstore": {"format": 1, "seal": ""}}, '
    b'"consolidated_metadata": {"metadata": {"a": {"b": ' + b"[" * 900 + b"]" * 900 + b"}}}}",
}


@pytest.mark.promise("P7")
@pytest.mark.parametrize("case", NO_ROOTS)
def test_whatever_lies_in_the_place_of_the_root_document_is_refused_in_a_line(
    store: Path, case: str
) -> None:
    with changed(store / ROOT, becomes(NO_ROOTS[case])):
        with pytest.raises((DamageError, InputError), match=f"^{store}: ") as refused:
            open_store(store)
        assert len(str(refused.value)) < 600
        assert named_by_verify(store, deep=True) == [ROOT]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[5] ^= 8
    file.write_bytes(content)


def test_without_deep_a_shard_is_not_read(store: Path) -> None:
    with changed(store / SHARD, flip):
        assert verify(store) == []
        problem = "is not what was committed (its digest differs)"
        assert verify(store, deep=True) == [Damage(SHARD, problem)]


def test_what_is_wrong_with_a_file_is_told(store: Path) -> None:
    size = (store / SHARD).stat().st_size
    records = "digests/trials_eeg/c/0/0"
    told = {
        (SHARD, "deleted"): "is missing",
        (SHARD, "cut by a byte"): f"has {size - 1} bytes, expected {size}",
        ("trials/label/c/0", "not readable"): "cannot be read (Input/output error)",
        ("trials/label/c/0", "a pipe"): "is missing",
        (records, "zeros"): "is not what was committed",
        (records, "deleted"): "is missing",
        ("trials/eeg/zarr.json", "a line added"): "was changed since the commit",
        ("trials/zarr.json", "deleted"): "is missing",
        ("trials/zarr.json", "not readable"): "cannot be read (Input/output error)",
    }
    for (name, mutation), problem in told.items():
        with changed(store / name, MUTATIONS[mutation]):
            assert verify(store) == [Damage(name, problem)]


def test_all_damage_is_told_at_once(store: Path) -> None:
    cases = {
        "trials/eeg/c/0/0/0": "deleted",
        "trials/eeg/c/2/0/0": "emptied",
        "trials/label/c/0": "zeros",
        "digests/stimuli_gradients/c/0/0": "a pipe",
        "stimuli/zarr.json": "a line added",
    }
    with contextlib.ExitStack() as stack:
        for name, mutation in cases.items():
            stack.enter_context(changed(store / name, MUTATIONS[mutation]))
        assert sorted(named_by_verify(store, deep=False)) == sorted(cases)


def test_the_listener_hears_of_every_data_file(store: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    verify(store, listener=lambda file, done, total: heard.append((file, done, total)))
    data = [one for one in files_of(store) if not one.endswith(ROOT) and "digests" not in one]
    assert sorted(file for file, _, _ in heard) == data
    assert [(done, total) for _, done, total in heard] == [
        (number, len(data)) for number in range(1, len(data) + 1)
    ]


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an eegstore store"):
        verify(tmp_path)


def test_the_command_ends_with_0_for_a_clean_store(store: Path) -> None:
    done = run_command("verify", store, "--deep", "--json", cwd=store.parent)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"store": str(store), "deep": True, "ok": True, "damage": []}


def test_the_command_ends_with_5_for_a_damaged_store(store: Path) -> None:
    with changed(store / SHARD, flip):
        done = run_command("verify", store, "--deep", "--json", cwd=store.parent)
        assert (done.code, done.err) == (5, "")
        told = json.loads(done.out)
        assert (told["ok"], told["deep"]) == (False, True)
        assert [one["file"] for one in told["damage"]] == [SHARD]
        shown = run_command("verify", store, "--deep", cwd=store.parent)
        assert shown.code == 5
        assert SHARD in shown.out
        assert shown.err.startswith(f"eegstore: {store}: 1 damaged")
        assert run_command("verify", store, cwd=store.parent).code == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_escapes_names_that_are_no_text(store: Path, options: list[str]) -> None:
    name = store / "trials" / "\x1b[31m\n\udcff"
    name.touch()
    done = run_command("verify", store, *options, cwd=store.parent)
    name.unlink()
    assert done.code == 5
    assert "\x1b" not in done.out + done.err
    assert "defect of eegstore" not in done.err
    assert r"\x1b[31m\n\udcff" in done.out or r"\u001b[31m\n\udcff" in done.out


def test_the_command_ends_with_3_where_there_is_no_store(tmp_path: Path) -> None:
    done = run_command("verify", "nothing", cwd=tmp_path)
    assert (done.code, done.out) == (3, "")
    assert done.err.count("\n") == 1
    assert "nothing: not an eegstore store" in done.err

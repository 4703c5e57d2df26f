"""Files, names and folders that infer.apply can't use: each is an error that says what is wrong, and leaves nothing.

What a row may be is in tests/test_infer_apply.py; here is what a whole file or its place may be.
"""

import gzip
import io
import json
import math
import multiprocessing
import os
import resource
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conf.errors import EdgewiseError
from conf.schema import Tracking
from infer.apply.stage import apply
from infer.switcher.bundle import bundle as make_bundle
from tests.switchers import EchoEngine, applying, budget_switcher, start_echo
from tracking.interface import ArtifactDraft
from tracking.store import Store


@pytest.fixture(scope="module")
def switcher(tmp_path_factory):
    """The root of a store and the reference of a switcher in it."""
    store, ref = budget_switcher(tmp_path_factory.mktemp("store"), budget=0.5, examples=400)
    return store.root, ref


def parquet(table, **choices):
    """The bytes of a Parquet file."""
    written = io.BytesIO()
    pq.write_table(table, written, **choices)
    return written.getvalue()


def zipped(name, content):
    """The bytes of a ZIP file, as spreadsheets are."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(name, content)
    return written.getvalue()


GOOD = parquet(pa.table({"text": [f"text {i}" for i in range(3000)]}), write_page_checksum=True)
FLIPPED = GOOD[:5000] + bytes([GOOD[5000] ^ 0xFF]) + GOOD[5001:]
FILES = {
    "whole.csv": (GOOD, r"a Parquet file by its content; name it whole\.parquet"),
    "whole.jsonl": (GOOD, "a Parquet file by its content"),
    "half.parquet": (GOOD[: len(GOOD) // 2], "can't be read as Parquet"),
    "without_its_end.parquet": (GOOD[:-5], "can't be read as Parquet"),
    "flipped.parquet": (FLIPPED, "can't be read as Parquet: .*CRC"),
    "pointer.parquet": (b"version https://git-lfs.github.com/spec/v1\n", "it starts with version https"),
    "gzip.csv": (gzip.compress(b"text\na\n", mtime=0), "binary, not .csv text"),
    "gzip.jsonl": (gzip.compress(b'{"text": "a"}\n', mtime=0), "binary, not .jsonl text"),
    "spreadsheet.csv": (zipped("sheet.xml", "a"), "binary, not .csv text"),
    "utf16.jsonl": ('{"text": "a"}\n'.encode("utf-16"), "is it compressed, or UTF-16"),
    "utf16_without_a_mark.tsv": ("text\ta\n".encode("utf-16-le"), "UTF-16"),
    "utf32.csv": ("text\na\n".encode("utf-32"), "UTF-16"),
    "mark_alone.csv": (b"\xef\xbb\xbf", "the file is empty"),
    "mark_of_utf16_alone.csv": (b"\xff\xfe", "the header is not UTF-8"),
    "blank_lines.csv": (b"\n\n\r\n", "the file is empty"),
    "nul_in_the_header.csv": (b"te\0xt\na\n", "binary"),
    "nul_in_a_string.jsonl": (b'{"text": "' + b"a" * 70_000 + b'\0"}\n', "line 1: not JSON .Invalid control"),
    "quote_in_the_header.csv": (b'"te"xt\na\n', "the header: text follows a closing quote"),
    "quote_opened_in_the_header.csv": (b'"text\na\n', "the header: a quote is opened and never closed"),
    "page.csv": (b"<html><body>Not found, sorry</body></html>\n", "no column text"),
    "objects.csv": (b'{"text": "a"}\n', "no column text"),
    "names_without_letters.csv": (b",\na,b\n", "no column text"),
    "blank_before_the_name.csv": (b" text\na\n", "no column text, which the switcher reads; it has ' text'"),
    "taken_prediction.csv": (b"text,prediction\na,1\n", "has a column prediction already"),
    "taken_model.tsv": (b"text\tmodel\na\t1\n", "has a column model already"),
    "taken_twice.csv": (b"text,deferred,score\na,1,2\n", "has a column score, deferred already"),
    "taken_late.jsonl": (b'{"text": "a"}\n' * 5 + b'{"text": "b", "deferred": 1}\n', "line 6 has deferred already"),
    "short.tsv": (b"id\ttext\n1\n", "row 1 has 1 values"),
    "table.jsonl": (b"text\na\n", "line 1: not JSON"),
    "two_on_a_line.jsonl": (b'{"text": "a"}{"text": "b"}\n', "line 1: not JSON .Extra data"),
    "python.jsonl": (b"{'text': 'a'}\n", "line 1: not JSON .Expecting property name"),
    "comma.jsonl": (b'{"text": "a",}\n', "line 1: not JSON"),
    "endless.jsonl": (b'{"text": "a"}\n{"text": "b", "n": 1e999}\n', "line 2: the number 1e999 is not finite"),
    "no_number.jsonl": (b'{"text": "a", "n": [NaN]}\n', "line 1: the number NaN is not finite"),
    "null.jsonl": (b'{"text": "a"}\nnull\n', "line 2: expected an object with named values, found None"),
    "numbers_for_names.jsonl": (b"{1: 2}\n", "line 1: not JSON"),
    "deep_beside_text.jsonl": (b'{"text": "a", "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}\n", "nested too deeply"),
    "compressed.csv.gz": (b"text\na\n", r"ends in \.csv, \.tsv"),
    "without_an_ending": (b"text\na\n", r"ends in \.csv, \.tsv"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_can_t_be_used_is_refused_and_nothing_is_written(name, switcher, tmp_path):
    content, message = FILES[name]
    source = tmp_path / name
    source.write_bytes(content)
    with pytest.raises(EdgewiseError, match=message):
        apply(applying(*switcher, source, tmp_path / f"out{source.suffix}"), start_echo)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def pipe(folder):
    os.mkfifo(folder / "in.csv")


def device(folder):
    (folder / "in.csv").symlink_to("/dev/zero")


def circle(folder):
    (folder / "in.csv").symlink_to(folder / "in.csv")


def gone(folder):
    (folder / "in.csv").symlink_to(folder / "elsewhere.csv")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pipe, "a pipe or a device; expected a file"),
        (device, "a pipe or a device; expected a file"),
        (circle, "no such file"),
        (gone, "no such file"),
    ],
)
def test_what_is_no_file_is_not_read(make, message, switcher, tmp_path):
    make(tmp_path)
    with pytest.raises(EdgewiseError, match=message):
        apply(applying(*switcher, tmp_path / "in.csv", tmp_path / "out.csv"), start_echo)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def is_folder(output):
    output.mkdir()
    return output


def is_below_a_file(output):
    output.with_name("file").write_text("mine")
    return output.with_name("file") / "out.csv"


def is_too_long(output):
    return output.with_name("x" * 300 + ".csv")


def has_no_room_for_the_parts(output):
    return output.with_name("x" * 249 + ".csv")


def has_a_file_for_the_parts(output):
    output.with_name(".out.csv.parts").write_text("mine")
    return output


def has_folders_among_the_parts(output):
    (output.with_name(".out.csv.parts") / "mine").mkdir(parents=True)
    return output


def is_another_s(output):
    output.write_text("mine")
    return output


def is_the_input_by_another_name(output):
    os.link(output.with_name("in.csv"), output)
    return output


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (is_folder, "is a folder: give another name"),
        (is_below_a_file, "can't be made: Not a directory; write elsewhere"),
        (lambda output: "/proc/none/out.csv", "can't be made: No such file or directory; write elsewhere"),
        (is_too_long, "can't be made: File name too long"),
        (has_no_room_for_the_parts, "can't be made: File name too long"),
        (has_a_file_for_the_parts, "can't be made: File exists"),
        (has_folders_among_the_parts, "is a folder, where only parts of an output are expected"),
        (is_another_s, "not as this command would write it"),
        (is_the_input_by_another_name, "is the input itself"),
        (lambda output: output.with_suffix(""), r"expected a name that ends in \.csv"),
    ],
)
def test_an_output_that_can_t_be_written_is_refused_and_what_is_there_stays(make, message, switcher, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("text\na\n")
    output = make(tmp_path / "out.csv")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(EdgewiseError, match=message):
        apply(applying(*switcher, source, output), start_echo)
    after = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert {path: kept for path, kept in after.items() if path.name not in ("lock", "state.json")} == before


def test_two_columns_for_one_field_are_refused(switcher, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("a,b\n1,2\n")
    with pytest.raises(EdgewiseError, match="a and b are both to be read as text; name one of them"):
        apply(applying(*switcher, source, tmp_path / "out.csv", columns={"a": "text", "b": "text"}), start_echo)
    with pytest.raises(EdgewiseError, match="no column c, which the switcher reads; it has a, b"):
        apply(applying(*switcher, source, tmp_path / "out.csv", columns={"c": "text"}), start_echo)


@pytest.mark.parametrize("changed", ["text\na\n", "text\na\nc\n"])
def test_a_file_that_changes_while_it_is_read_is_not_answered(changed, switcher, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\na\nb\n")

    class Changing(EchoEngine):
        """Stands for another process that writes the input meanwhile."""

        def answer(self, columns, advance):
            source.write_text(changed)
            return super().answer(columns, advance)

    with pytest.raises(EdgewiseError, match="changed while it was read"):
        apply(applying(*switcher, source, output), lambda found, config: Changing(found.policy))
    assert not output.exists()
    rows = len(changed.splitlines()) - 1
    assert apply(applying(*switcher, source, output), start_echo).rows == rows  # parts of the other are not taken


def test_a_full_disk_leaves_whole_parts_and_the_same_command_goes_on(switcher, tmp_path):
    source, output, whole = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "whole.jsonl"))
    source.write_text("".join(json.dumps({"text": "x" * 40_000}) + "\n" for _ in range(60)))
    keys = {"chunk_rows": 5}

    def answer_with_little_room(ended):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))  # the store's files are smaller
        try:
            apply(applying(*switcher, source, output, **keys), start_echo)
        except OSError as error:
            ended.value = error.errno

    context = multiprocessing.get_context("fork")
    ended = context.Value("i", 0)
    child = context.Process(target=answer_with_little_room, args=(ended,))
    child.start()
    child.join()
    assert ended.value == 27 and child.exitcode == 0  # EFBIG, of which the command makes a sentence
    assert not output.exists() and len(list((tmp_path / ".out.jsonl.parts").glob("*.part"))) == 12

    class Refusing(EchoEngine):
        """Has nothing to answer: all parts were done, and joining them failed."""

        def answer(self, columns, advance):
            raise AssertionError

    apply(applying(*switcher, source, output, **keys), lambda found, config: Refusing(found.policy))
    apply(applying(*switcher, source, whole, **keys), start_echo)
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "whole.jsonl"]


@pytest.fixture
def bundle(switcher, tmp_path):
    """A bundle of the switcher."""
    root, ref = switcher
    return make_bundle(ref, tmp_path / "bundle", Tracking(root=str(root)))


def test_a_bundle_s_folder_is_made_where_a_link_points_or_refused_in_a_line(switcher, tmp_path):
    root, ref = switcher
    tracking = Tracking(root=str(root))
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    make_bundle(ref, tmp_path / "link", tracking)
    assert (tmp_path / "disk" / "policy.json").is_file()
    with pytest.raises(EdgewiseError, match="is there already"):
        make_bundle(ref, tmp_path / "link", tracking)
    with pytest.raises(EdgewiseError, match="can't be made .*Not a directory"):
        make_bundle(ref, tmp_path / "disk" / "policy.json" / "x", tracking)
    with pytest.raises(EdgewiseError, match="can't be made .*File name too long"):
        make_bundle(ref, tmp_path / ("n" * 300), tracking)


def test_of_a_bundle_an_output_that_is_there_is_refused_by_what_is_known(bundle, switcher, tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "a"}\n')
    config = applying(switcher[0], str(bundle), source, output)
    assert apply(config, start_echo).rows == 1
    with pytest.raises(EdgewiseError, match="no run of a bundle is kept that would say whether this command wrote it"):
        apply(config, start_echo)
    config.force = True
    assert apply(config, start_echo).rows == 1


def alter_a_model(bundle):
    next((bundle / "models").glob("*/model.safetensors")).write_bytes(b"other weights")


def lose_a_model(bundle):
    next((bundle / "models").glob("*/model.safetensors")).unlink()


def lose_all_models(bundle):
    for file in (bundle / "models").glob("*/*"):
        file.unlink()
    for folder in [*(bundle / "models").iterdir(), bundle / "models"]:
        folder.rmdir()


def rewritten(change):
    """A function that changes a bundle's policy.json."""

    def rewrite(bundle):
        policy = json.loads((bundle / "policy.json").read_text())
        change(policy)
        (bundle / "policy.json").write_text(json.dumps(policy))

    return rewrite


def cut_the_policy(bundle):
    file = bundle / "policy.json"
    file.write_text(file.read_text()[:-100])


def in_latin_1(bundle):
    file = bundle / "policy.json"
    file.write_bytes(file.read_bytes() + "é".encode("latin-1"))


def lose_the_policy(bundle):
    (bundle / "policy.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (in_latin_1, "policy.json: not UTF-8 .*; expected a switcher's policy.json"),
        (lose_the_policy, "is a folder that holds no policy.json: expected one that infer.switcher.bundle made"),
        (rewritten(lambda policy: policy.update(template=5)), "template 5, expected text"),
        (rewritten(lambda policy: policy.update(dataset=5)), "dataset 5, expected text"),
        (rewritten(lambda policy: policy.update(goal=[])), r"goal \[\], expected an object"),
        (rewritten(lambda policy: policy.update(labels=[["0"]])), "labels: expected pairs of texts"),
        (rewritten(lambda policy: policy.update(max_input_length=0)), "max_input_length 0, expected a count"),
        (rewritten(lambda policy: policy.update(calibration=[])), "calibration: expected scores for each stage"),
        (rewritten(lambda policy: policy.update(calibration=[[]])), "calibration: .* and some of the first"),
        (rewritten(lambda policy: policy.update(calibration=[[math.nan]])), "calibration: a score is NaN"),
        (rewritten(lambda policy: policy.update(self_check=[])), "self_check of 0 stages, expected 2, or null"),
        (rewritten(lambda policy: policy["stages"][0].update(seed="0")), "expected size, seed and the model's digest"),
        (
            rewritten(lambda policy: policy["stages"][0].update(flops_per_example="1")),
            "flops_per_example '1'",
        ),
        (alter_a_model, "its files aren't the model .*copy the bundle again"),
        (lose_a_model, "its files aren't the model"),
        (lose_all_models, "No such file or directory; expected a folder of a bundle"),
        (rewritten(lambda policy: policy.update(schema_version=2)), "another schema version than 1"),
        (rewritten(lambda policy: policy.pop("template")), "lacks template"),
        (rewritten(lambda policy: policy["stages"][0].update(threshold="warm")), "not a policy"),
        (rewritten(lambda policy: policy["stages"][0].update(model="0" * 32)), "its files aren't the model 000"),
        (cut_the_policy, "not JSON"),
    ],
)
def test_a_switcher_that_is_damaged_is_refused_before_anything_is_written(damage, message, switcher, bundle, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("text\na\n")
    damage(bundle)
    config = applying(switcher[0], str(bundle), source, tmp_path / "out.csv")
    with pytest.raises(EdgewiseError, match=message):
        apply(config, start_echo)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "in.csv"]


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("switcher-none:latest", "switcher-none"),
        ("n" * 300, "no artifact 'nnn"),
        ("~nobody-of-this-name/bundle", "no artifact '~nobody"),
        ("model-synthetic-small-s0:latest", "expected a switcher"),
        ("copied:latest", "which is not in the store: train it again, or pull it"),
        ("written:latest", "not JSON"),
    ],
)
def test_a_reference_that_leads_to_no_switcher_is_refused(ref, message, switcher, tmp_path):
    store, folder = Store(switcher[0]), tmp_path / "files"
    folder.mkdir()
    policy = store.artifact(switcher[1]).file("policy.json").read_text()
    model = json.loads(policy)["stages"][1]["model"]
    for name, text in (("copied", policy.replace(model, "0" * 32)), ("written", "by hand")):
        (folder / name).write_text(text)
        with store.start_run(f"log-{name}", job_type="copy", config={}, restart=True) as run:
            run.log_artifact(ArtifactDraft(name, "switcher", files={"policy.json": folder / name}))
    (folder / "in.csv").write_text("text\na\n")
    with pytest.raises(EdgewiseError, match=message):
        apply(applying(switcher[0], ref, folder / "in.csv", tmp_path / "out.csv"), start_echo)
    assert [path.name for path in tmp_path.iterdir()] == ["files"]

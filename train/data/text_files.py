"""Reads the documents of plain text one after the other, so that a file of any size takes little memory.

A document is a line of a `.txt` file, or a row of a `.jsonl`, `.json`, `.parquet`, `.csv` or `.tsv` file. Only a
`.json` file, which is one value, is read whole.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa

from conf.errors import EdgewiseError, first_line
from conf.schema import Dataset
from metrics.parquet_file import opened_parquet
from metrics.rows import (
    ENDINGS,
    Columns,
    Wanted,
    flat_row,
    from_arrow,
    invalid_unicode,
    json_lines,
    listed,
    text_or_none,
)
from metrics.rows.delimited import read_delimited
from metrics.rows.start import check_is_parquet, check_is_text
from train.data.files import check_link, layout_of, read_file, what_to_rename
from train.data.template import fill_template, template_fields

TEXT_ENDINGS = ("txt", *ENDINGS)
LONGEST_LINE = 1 << 26  # bytes: 64 MiB, a library of novels; a longer line would have to be held whole
_ROWS = 256  # read at a time
_PARQUET_BUFFER = 1 << 20  # bytes of a column that are read at a time


@dataclass
class Documents:
    """Reads documents of files, and counts those that it leaves out.

    `left_out` maps a reason to the number of documents, of all that have been read so far.
    """

    dataset: Dataset
    files: Sequence[Path]
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def text_bytes(self) -> int:
        """Returns about how many bytes of text the files hold: what Parquet says of its columns, else files' sizes."""
        return sum(map(_text_bytes, self.files))

    def __iter__(self) -> Iterator[str]:
        """Yields the documents' texts: the template filled in with each row; those without any text are left out.

        Raises EdgewiseError for files that can't be read and that lack one of the template's columns.
        """
        template, fields = self.dataset.template, template_fields(self.dataset.template)
        for file in self.files:
            for columns in _chunks(file, self.dataset, fields):
                rows = len(columns[fields[0]])
                texts = fill_template(
                    template, {name: [value or "" for value in columns[name]] for name in fields}, rows
                )
                for row, text in enumerate(texts):
                    if not any((columns[name][row] or "").strip() for name in fields):
                        self.left_out["no text"] += 1
                    elif invalid_unicode(text):
                        self.left_out["not valid Unicode"] += 1
                    else:
                        yield text


def text_files(dataset: Dataset, names: dict[str, tuple[str, ...]]) -> dict[str, list[Path]]:
    """Returns the files of `train` and, where there are any, of `validation`, each in the order of their names.

    `names` maps a split to what its files may be called: `train.txt`, or `train-00000.txt` and `train.1.txt` of
    several. `dataset.splits` says other names, one or a list. A path that is a file, and files of a folder none of
    which is called so, are all of train. Raises EdgewiseError where there is nothing to read.
    """
    assert dataset.path is not None
    path = Path(dataset.path).expanduser()
    if path.is_file() and path.suffix[1:] in TEXT_ENDINGS:
        return {"train": [path]}
    endings = ", ".join(f".{ending}" for ending in TEXT_ENDINGS)
    if not path.is_dir():
        what = f"is a file, but not one of {endings}" if path.exists() else "does not exist"
        raise EdgewiseError(f"dataset.path={dataset.path} {what}; expected a folder with files of text ({endings})")
    files = sorted(file for file in path.iterdir() if file.suffix[1:] in TEXT_ENDINGS)
    for file in files:
        check_link(file)
    files = [file for file in files if file.is_file()]
    found = {split: [file for file in files if _is_called(file, stems)] for split, stems in names.items()}
    for split, chosen in (dataset.splits or {}).items():
        stems = tuple(map(str, chosen)) if isinstance(chosen, list) else (str(chosen),)
        found[split] = [file for file in files if _is_called(file, stems)]
        if not found[split]:
            raise EdgewiseError(
                f"dataset.splits={{{split}: {listed(stems)}}}: no such file in {path}; found "
                f"{listed([file.name for file in files]) or 'no file of text'}"
            )
    if not found["train"]:
        found["train"] = [file for file in files if not any(file in others for others in found.values())]
    if not found["train"]:
        there = sorted(file.name for file in path.iterdir())
        raise EdgewiseError(
            f"{path}: no file of text ({endings}) to train on; found {listed(there) or 'an empty folder'}"
            f"{what_to_rename(there, TEXT_ENDINGS)}"
        )
    return {split: found[split] for split in ("train", "validation") if found.get(split)}


def is_held_out(text: str, share: float, seed: int) -> bool:
    """Tells whether a document is among the share that is held out: by its text's hash alone, white space apart."""
    words = " ".join(text.split())
    number = hashlib.blake2b(f"{seed} {words}".encode(), digest_size=8).digest()
    return int.from_bytes(number, "big") < share * 2**64


def _is_called(file: Path, stems: Iterable[str]) -> bool:
    """Tells whether a file has one of the names `stems`, or is one of several with such a name."""
    return any(file.stem == stem or file.name.startswith((f"{stem}-", f"{stem}.")) for stem in stems)


def _text_bytes(file: Path) -> int:
    if file.suffix != ".parquet":
        return file.stat().st_size
    check_is_parquet(file)
    with opened_parquet(file) as parquet:
        groups = (parquet.metadata.row_group(group) for group in range(parquet.metadata.num_row_groups))
        return sum(group.total_byte_size for group in groups)


def _chunks(file: Path, dataset: Dataset, fields: Sequence[str]) -> Iterator[Columns]:
    """Yields the columns `fields` of a few rows at a time; EdgewiseError for a file that lacks one."""
    ending = file.suffix[1:]
    if ending == "txt":
        if list(fields) != ["text"]:
            raise EdgewiseError(
                f"{file}: its lines are one column, text; expected a template of that alone, not "
                f"dataset.template={dataset.template!r}"
            )
        lines = _lines(file)
        while chunk := list(islice(lines, _ROWS)):
            yield {"text": list(chunk)}
        return
    aliases = {here: there for there, here in dataset.columns.items()} if isinstance(dataset.columns, dict) else {}
    wanted = Wanted(frozenset([*fields, *(aliases[name] for name in fields if name in aliases)]))
    for names, columns in _named_chunks(file, ending, dataset, wanted):
        found = {name: name if name in names or name not in aliases else aliases[name] for name in fields}
        if missing := [there for there in found.values() if there not in names]:
            raise EdgewiseError(
                f"{file}: no column {listed(missing)}, which dataset.template={dataset.template!r} needs; found "
                f"{listed(names)}. Rename it: 'dataset.columns={{{names[0] if names else 'COLUMN'}: {missing[0]}}}'"
            )
        yield {name: columns[there] for name, there in found.items()}


def _named_chunks(file: Path, ending: str, dataset: Dataset, wanted: Wanted) -> Iterator[tuple[Sequence[str], Columns]]:
    """Yields the names of all columns and the values of the wanted ones, a few rows at a time."""
    if ending == "parquet":
        yield from _parquet_chunks(file, wanted)
    elif ending == "jsonl":
        rows = ((line, flat_row(row, wanted)) for line, row in json_lines(file))
        seen: dict[str, None] = {}  # names of any row so far: how rows fall into chunks decides nothing
        while chunk := list(islice(rows, _ROWS)):
            seen.update(dict.fromkeys(name for _, row in chunk for name in row))
            yield (
                list(seen),
                {
                    name: [text_or_none(f"{file}: line {line}", name, row.get(name)) for line, row in chunk]
                    for name in seen
                    if wanted(name)
                },
            )
    elif ending in ("csv", "tsv"):
        table = read_delimited(file, ending, layout_of(dataset), wanted)
        while values := [row for _, row in islice(table.rows, _ROWS)]:
            yield table.names, {name: [row[place] for row in values] for place, name in enumerate(table.kept)}
    else:
        yield read_file(file, dataset, wanted)


def _parquet_chunks(file: Path, wanted: Wanted) -> Iterator[tuple[Sequence[str], Columns]]:
    check_is_parquet(file)
    try:
        with opened_parquet(file, _PARQUET_BUFFER) as parquet:
            schema = parquet.schema_arrow
            columns = [name for name in schema.names if wanted(name) or wanted.inside(name)]
            for batch in parquet.iter_batches(_ROWS, columns=columns):
                yield from_arrow(file, schema, pa.Table.from_batches([batch]), wanted)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise EdgewiseError(f"{file}: can't be read as Parquet: {first_line(error)}") from None


def _lines(file: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file; EdgewiseError, with the line, for other text and for one too long."""
    check_is_text(file)
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE:
                raise EdgewiseError(
                    f"{file}: line {number} is longer than {LONGEST_LINE >> 20} MiB, and a line is a document; "
                    "expected shorter ones: cut it into chapters or paragraphs, a line each"
                )
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise EdgewiseError(
                    f"{file}: line {number}: not UTF-8 ({error.reason} at byte {error.start} of the line); "
                    "save the file as UTF-8"
                ) from None

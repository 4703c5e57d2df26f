"""Says which columns a scores file has: those of every task, and which columns hold which field of `Scores`."""

from metrics.scores.schema import TASK_FIELDS

METADATA_KEY = b"edgewise"
CHECKSUM_KEY = b"edgewise.crc32"  # CRC-32 of what stands under METADATA_KEY, in decimal digits
FORMER_KEY = b"switchyard"  # what the product was called before 0.2.0

STRINGS = ("example_id", "target", "prediction")
OPTIONAL_STRINGS = ("text", "cluster")  # of any task; a file may lack them, and rows of theirs may be null
# field of TokenScores -> its column, which of the self context has `self_` before it
TOKEN_PARTS = {"log_probs": "token_log_probs", "margins": "token_margins", "entropies": "token_entropies"}
# field of Scores -> its columns
FIELD_COLUMNS = {
    "correct": ("correct",),
    "class_log_likelihoods": ("class_log_likelihoods",),
    "gold_tokens": tuple(TOKEN_PARTS.values()),
    "self_tokens": tuple(f"self_{name}" for name in TOKEN_PARTS.values()),
    "bleu_stats": ("bleu_stats",),
}
# task -> its columns beside the strings; `correct` is in every file, of translation filled with nulls
TASK_COLUMNS = {
    task: ("correct", *(column for field in fields if field != "correct" for column in FIELD_COLUMNS[field]))
    for task, fields in TASK_FIELDS.items()
}

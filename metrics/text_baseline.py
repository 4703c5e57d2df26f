"""Holds what a bag of words reaches: TF-IDF with logistic regression, learned from the training rows.

It is measured where the training text is read (`train/text_baseline.py`) and comes to the metrics in the metadata of
scores artifacts; `metrics/tables/baseline.py` shows it beside the sizes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NAME = "TF-IDF with logistic regression"


@dataclass(frozen=True)
class TextBaseline:
    """Holds what TF-IDF with logistic regression reached on a split, and from how many training rows it learned."""

    accuracy: float  # 0-1
    examples: int  # of the split
    learned_rows: int  # that it learned from; fewer than `training_rows` where those would take too long
    training_rows: int
    signature: str  # how it was computed

    def as_metadata(self) -> dict[str, Any]:
        """Returns the fields as an artifact's metadata holds them."""
        return asdict(self)

    @classmethod
    def from_metadata(cls, metadata: Any) -> "TextBaseline | None":
        """Returns the baseline that `as_metadata` wrote; None for anything else, as scores of before 0.2.0 have."""
        try:
            return cls(**metadata)
        except TypeError:
            return None

    @property
    def learned_from(self) -> str:
        """Writes which training rows it learned from."""
        if self.learned_rows < self.training_rows:
            return f"{self.learned_rows:,} of the {self.training_rows:,} training rows"
        return f"the {self.training_rows:,} training rows"


def common_baseline(metadata: Sequence[Mapping[str, Any]]) -> TextBaseline | None:
    """Returns the baseline in the metadata of a dataset's scores artifacts, the last one's where they differ.

    They differ where the training rows have changed between two runs. None where no artifact holds one.
    """
    found = [TextBaseline.from_metadata(one.get("baseline")) for one in metadata]
    return next((baseline for baseline in reversed(found) if baseline is not None), None)

"""Writes which sizes are no better than always answering the majority class, of which nothing can be concluded."""

from metrics.analysis.dataset import Analysis
from metrics.report.words.phrases import percent, points, within


def weak_sizes(analysis: Analysis) -> list[str]:
    """Lists the sizes that are not shown to be better than always answering the majority class."""
    majority = analysis.majority
    return [] if majority is None else [size.name for size in analysis.grid.sizes if majority.too_weak(size.name)]


def too_weak_to_conclude(analysis: Analysis) -> str:
    """Writes the answer for a dataset whose smallest and largest size are both no better than the majority class."""
    return f"Models too weak to conclude. {weak_sentences(analysis)} Train longer, or on more data, before comparing."


def weak_sentences(analysis: Analysis) -> str:
    """Writes a sentence for each weak size; "" if there is none."""
    majority = analysis.majority
    if majority is None:
        return ""
    sentences = []
    for size in weak_sizes(analysis):
        over = majority.over[size]
        baseline = f'always answering "{majority.name}", the majority class with {percent(majority.share)}'
        if over.below_zero:
            sentences.append(f"{size} is worse than {baseline}, by {points(-over.value)} points{within(over.negated)}.")
        else:
            sentences.append(
                f"{size} is within noise of {baseline}: {points(over.value, sign=True)} points{within(over)}."
            )
    return " ".join(sentences)

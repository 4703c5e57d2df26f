"""Says what the paper's own tables have to a claim, of a dataset that is in the paper too."""

from metrics.audit.published import LARGER, buckets, gain

NAMES = {"imdb": "IMDb"}  # our datasets by the names that the published tables have
TITLES = {"margin": "margin", "cmt_margin": "the committee's margin", "churn": "churn"}
SMALLEST, LARGEST = "SMALL", LARGER[-1]


def published_gains(table: str, scores: tuple[str, ...], dataset: str) -> str:
    """Returns the cells of Table 1 or 3 by these scores, small T5 against each larger one."""
    cells = [
        f"by {TITLES[score]} {', '.join(str(gain(table, NAMES[dataset], size, score)) for size in LARGER)}"
        for score in scores
    ]
    title = {"table1": "Table 1", "table3": "Table 3"}[table]
    return f"{title}, {SMALLEST} against {', '.join(LARGER)}, %: {'; '.join(cells)}"


def published_churn(dataset: str) -> str:
    """Returns Table 2's churn of the largest T5 in Q1 and Q4, by the uncertainty of the smallest and by its own."""
    rows = [(size, buckets(NAMES[dataset], size)) for size in (SMALLEST, LARGEST)]
    cells = [f"by the uncertainty of {size} {row[0].churn} and {row[3].churn}" for size, row in rows]
    return f"Table 2, churn of {LARGEST} in Q1 and Q4, %: {'; '.join(cells)}"

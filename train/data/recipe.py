"""Says how a drafted dataset is learnt from scratch: the values of its recipe. docs/training.md has what they reach."""

from collections import Counter
from collections.abc import Collection, Iterable

from conf.schema import BPE, LABELS, WORD, Recipe
from train.data.columns import Column
from train.data.tokens import normalised
from train.data.words import parted

# Few classes are decided by few words; what many classes differ by must be learnt faster, and be seen more often.
FEW_CLASSES = 20
# Where classes are few; where they are many, rare words tell them apart. Parts of words say less each.
MIN_TOKEN_COUNTS = {WORD: 2, BPE: 3}
LONG_TEXT = 15  # words on average: of few words each may decide, of many half say enough
# For the sizes micro and tiny from scratch.
RECIPE_OF_PAIRS = Recipe(
    steps=1500, batch_size=64, learning_rate=0.05, schedule="linear", warmup_steps=200, vocabulary_size=6000
)


def recipe_of_classes(rows: int, text: Column, labels: Collection[str]) -> Recipe:
    """Returns the training values for the sizes words_s and words_m from scratch.

    The vocabulary is of words where they come back, and tells capital letters from small ones only where labels do.
    """
    few = len(labels) <= FEW_CLASSES
    model_type = WORD if _words_come_back(text.values) else BPE
    epochs, most = (10, 3000) if few else (20, 6000)
    token_dropout = 0.5 if text.mean_words > LONG_TEXT else 0.3
    return Recipe(
        steps=min(most, max(600, 100 * round(epochs * rows / 6400))),
        batch_size=64,
        learning_rate=0.0015 if few else 0.003,
        schedule="linear",
        warmup_steps=60,
        optimizer="adamw",
        b2=0.98,
        weight_decay=0.1,
        token_dropout=token_dropout if few else 0.2,
        min_token_count=MIN_TOKEN_COUNTS[model_type] if few else 1,
        vocabulary_size=8000,
        model_type=model_type,
        lower_case=len({normalised(label, lower_case=True) for label in labels}) == len(labels),
        whole_labels=True,
        softmax=LABELS,
    )


def _words_come_back(texts: Iterable[str]) -> bool:
    """Tells whether most words of these texts are there more than once; without spaces between them they are not."""
    words = Counter(word for text in texts for word in parted(text.lower()).split() if any(map(str.isalpha, word)))
    return sum(count for count in words.values() if count > 1) > words.total() / 2

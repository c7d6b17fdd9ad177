"""Japanese–English sentence pairs made by a grammar of ours: the data set that ships with the package.

`forms` inflects verbs, adjectives and nouns of both languages, `words` is the dictionary, `clauses` puts
words together to phrases and clauses, `patterns`, `states` and `joined` hold the kinds of sentences, and `pairs` draws
from them.
"""

from fastrnn.tasks.translate.grammar.pairs import PAIRS, pairs

__all__ = ["PAIRS", "pairs"]

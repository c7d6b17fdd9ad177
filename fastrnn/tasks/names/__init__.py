"""Names, character by character: which class a name is of, and new names of a class."""

"""Language models: which word, character or byte comes next."""

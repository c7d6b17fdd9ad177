"""Headlines and their kinds: business, technology, entertainment, health (exercises 80 to 83)."""

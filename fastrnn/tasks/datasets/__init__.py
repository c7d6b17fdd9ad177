"""Public data for the tasks: where it is, fetched and made ready, and files checked."""

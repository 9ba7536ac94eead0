"""Running a guest, comparing runs, reporting."""

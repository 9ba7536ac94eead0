"""`coalesced live`: a page that shows a machine while its guest runs, from a process beside it."""

"""`coalesced live`: a page that shows a machine while its guest runs; another process serves it."""

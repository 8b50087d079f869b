"""One file a schema number; a number that was released is never edited."""

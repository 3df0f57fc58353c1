"""One module per step; a step that has left this repository is never changed, a new one follows it."""

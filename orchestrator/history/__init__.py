"""What can be done with runs that are there already: fork, compare, replay, undo."""

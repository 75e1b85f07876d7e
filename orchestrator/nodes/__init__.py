"""The nodes of both graphs: async functions from a state to what changes in it."""

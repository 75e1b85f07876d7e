"""Talking to models: the protocol, the client, the embedded server, constrained answers."""

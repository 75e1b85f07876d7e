"""What a call may do: deterministic policy over declared effects, paths and parsed shell commands.

No model, no network and no person in here: the guardian node asks `Policy.judge` and acts on the judgement.
"""

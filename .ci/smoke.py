"""Run an installed `orc` on a scripted model, away from the checkout; fails when the file is not made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from scripted import Call, Say, ScriptedModel

script = [Call("write_file", path="hello.txt", content="hello\n"), Say("hello.txt holds a greeting.")]
with ScriptedModel(script) as model:
    environment = {**os.environ, "OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "not-a-real-key"}
    command = [str(Path(sys.executable).with_name("orc")), "run", "@coder write hello into hello.txt"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
if done.returncode or done.stdout != "hello.txt holds a greeting.\n" or not Path("hello.txt").is_file():
    sys.exit(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")

"""orc: a multi-agent orchestrator on LangGraph. Nothing is imported here, so that the command starts fast."""

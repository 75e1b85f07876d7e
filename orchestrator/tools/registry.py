"""All built-in tools by name, in the order in which models see them."""

from __future__ import annotations

from orchestrator.tools.base import Tool
from orchestrator.tools.command import RUN_COMMAND, RUN_PYTHON
from orchestrator.tools.docs import SEARCH_DOCS
from orchestrator.tools.edit import DELETE_FILE, EDIT_FILE, MOVE_FILE, WRITE_FILE
from orchestrator.tools.files import LIST_FILES, READ_FILE
from orchestrator.tools.finish import FINISH
from orchestrator.tools.insert import ADD_LINES
from orchestrator.tools.search import SEARCH_FILES
from orchestrator.tools.trying import TRY_CHANGES
from orchestrator.tools.web import FETCH_URL
from orchestrator.tools.websearch import WEB_SEARCH

TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        READ_FILE,
        LIST_FILES,
        SEARCH_FILES,
        WRITE_FILE,
        EDIT_FILE,
        ADD_LINES,
        MOVE_FILE,
        DELETE_FILE,
        RUN_COMMAND,
        RUN_PYTHON,
        TRY_CHANGES,
        FETCH_URL,
        WEB_SEARCH,
        SEARCH_DOCS,
        FINISH,
    )
}

"""Files that a person wrote: read with line and column, checked against a model, all problems at once.

Knows nothing of agents or settings: the caller brings the Pydantic model.
"""

from orchestrator.documents.checking import suggestion, validate
from orchestrator.documents.reading import Document, Place, read_front_matter, read_text, read_yaml, shown

__all__ = [
    "Document",
    "Place",
    "read_front_matter",
    "read_text",
    "read_yaml",
    "shown",
    "suggestion",
    "validate",
]

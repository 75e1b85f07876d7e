"""What a person decided on calls: for one call, once, or for the same call from now on.

Nothing in a workspace can give an approval: every row is sealed with a key that lies in the user's own
data folder, and so do the rules that were remembered.
"""

from orchestrator.approvals.grants import Asked, Grants, Row, canonical
from orchestrator.approvals.remembered import Remembered, Rule

__all__ = ["Asked", "Grants", "Remembered", "Row", "Rule", "canonical"]

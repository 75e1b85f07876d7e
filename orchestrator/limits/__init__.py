"""What may be used, counted in shared files so that pauses, crashes and processes reset nothing.

A call is reserved before it is made and settled after it; one that does not fit is refused before the
money is spent. Prices are stored with each call: a later change never rewrites the past.
"""

from orchestrator.limits.budget import Budget, Spent, StepOver
from orchestrator.limits.entries import Who
from orchestrator.limits.ledger import Ledger
from orchestrator.limits.prices import price

__all__ = ["Budget", "Ledger", "Spent", "StepOver", "Who", "price"]

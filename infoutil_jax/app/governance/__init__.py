"""What those who answer for a distilled set need.

Why an image is in it (`explain`), whether the set is what its manifest says (`audit`), and a set
without an image that has to go (`forget`).
"""

from infoutil_jax.app.governance.audit import Audit, Finding, audit
from infoutil_jax.app.governance.explain import explain
from infoutil_jax.app.governance.forget import Forgotten, forget

__all__ = ["Audit", "Finding", "Forgotten", "audit", "explain", "forget"]

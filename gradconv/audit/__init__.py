"""Audits of any torch module: does its gradient survive mesh refinement, and where does it break.

>>> import torch
>>> from gradconv.audit import audit
>>> conv = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
>>> with torch.no_grad():
...     _ = conv.weight.copy_(torch.tensor([[[0.2, 0.5, 0.1]]]))
>>> found = audit(conv, noise="pixel:20", hierarchy=(32, 64, 128, 256, 512))
>>> found.verdict, found.findings[0].cause
('diverges', 'kernel tied to the grid')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradconv.loading import lazy

if TYPE_CHECKING:
    from gradconv.audit.auditing import audit
    from gradconv.audit.estimator.auditing import audit_estimator
    from gradconv.audit.estimator.loop import EstimatorLoop
    from gradconv.audit.estimator.result import EstimatorAudit
    from gradconv.audit.findings import Finding
    from gradconv.audit.result import Audit

# Names load on first use: the command line must not wait for torch.
_HOMES = {
    "Audit": "result",
    "EstimatorAudit": "estimator.result",
    "EstimatorLoop": "estimator.loop",
    "Finding": "findings",
    "audit": "auditing",
    "audit_estimator": "estimator.auditing",
}

__all__ = [
    "Audit",
    "EstimatorAudit",
    "EstimatorLoop",
    "Finding",
    "audit",
    "audit_estimator",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)

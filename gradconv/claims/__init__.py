"""The paper's claims, each with its law, its measurement and a verdict made by a rule.

`ledger` holds them together, `paper` states them, `rules` judges, `evidence` reads stored results.
"""

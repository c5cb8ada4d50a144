"""Training on several scales: what is run, what the runs come to, and evidence for the claims.

`runs` trains; `spreads`, `comparing`, `hot_starts` and `curves` compute what `tables`, `figures`
and `sentences` show; `measured` and `evidence` are what the claims are judged by.
"""

"""Studies: runs, and the analyses between them, from one config to one page.

`spec` says what a study is, `plan` lists its runs and pairs, `questions` answers each
question into a record, and `local` does all of it on this machine.
"""

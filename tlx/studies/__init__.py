"""Studies: runs, and the analyses between them, from one config to one page.

`spec` says what a study is, `plan` lists its runs, `questions` has one file for each question
that can be asked of them, and `runner` does all of it on this machine.
"""

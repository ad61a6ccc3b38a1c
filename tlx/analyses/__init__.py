"""The questions, one file each: pure functions over any parameters and any apply function.

`interpolation` (lines and barriers), `similarity` (of features), `distances` (of
parameters), `agreement` (of mistakes). Each returns a NamedTuple of arrays.
"""

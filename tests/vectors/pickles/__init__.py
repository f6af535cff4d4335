"""Pickles to judge: hostile ones by family, benign ones by writer, and the named policies that judge them.

Everything is stated by hand: the reason of a refusal, and the byte it is at. Nothing here asks the verifier.
"""

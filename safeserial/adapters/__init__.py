"""Adapters: the promises of the gateway inside other people's frameworks. One file per framework, which imports it.

Nothing is imported here: whoever uses one framework has not the others.
"""

"""``safeserial demo``: a stock worker is hijacked, the guarded one refuses, in one run, without a server.

Everything happens in a temporary folder and in memory. The payload of step 1 does one harmless thing: it writes a file
there. Every figure that is printed was measured in that run.
"""

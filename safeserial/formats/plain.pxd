# The C types of plain.py.
cimport cython

cdef bint COMPILED

@cython.locals(level=list, following=list, table=dict, row=list, depth='long long', nodes='long long')
cpdef int survey(object value, bint binary, bint any_float, long long max_depth, long long max_nodes) except -1
@cython.locals(number=double)
cdef bint may_stay(object value, list following, bint binary, bint any_float) except -1

# The C types of counts.py.
cimport cython

cdef bint COMPILED
cdef int _ALONE, _STR, _BIN, _ARRAY, _MAP, _EXT, _INT, _FLOAT, _FIXED_EXT, _NEVER
cdef bytes KINDS, WIDTHS
cdef long long _FEW

@cython.locals(end=Py_ssize_t, pos=Py_ssize_t, at=Py_ssize_t, nodes='long long', found='long long', left='long long', is_map=bint,
               stack=list, numbers=list, tables=list, level='long long', marker_allowed=bint, marker_here=bint, around='long long', is_key=bint, code=int,
               count='long long', kind=int, width=int, step=int, items='long long', rest=int)
cpdef long long walk(bytes data, long long max_depth, long long max_nodes, long long max_string, long long max_int_bits,
                     bint allow_nan, bint tags) except -1
@cython.locals(total='long long', level=list, following=list, table=dict, row=list)
cpdef long long entries(object value) except -1
@cython.locals(level=Py_ssize_t, deepest=Py_ssize_t, code=int)
cpdef Py_ssize_t depth(bytes brackets) except -1

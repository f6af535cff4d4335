# The C types of tags.py.
cimport cython

cdef bint COMPILED

@cython.locals(holder=list, parents=list, keys=list, nodes=list, in_parents=list, at_keys=list, handlers=list, pairs=list,
               sized=list, room='long long', i=Py_ssize_t, place=Py_ssize_t)
cpdef tuple find(object root, object ctx, dict table, bint binary)
cdef bint may_be_tag(object node, bint binary) except -1
cdef tuple known(object node, dict table, bint binary)
@cython.locals(made=list, handlers=list, pairs=list, i=Py_ssize_t)
cpdef list check(object found, object ctx, bint again)
@cython.locals(parents=list, keys=list, handlers=list, pairs=list, i=Py_ssize_t)
cpdef undo(object found, object ctx, object made)
cdef object unreadable(object error, object handler)

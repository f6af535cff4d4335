# The C types of protobuf_scan.py: places and counts are machine integers, numbers off the wire are Python's.
cimport cython

cdef int BYTES, STRING, MESSAGE, MAP, PACKED, ANY_TYPE, ANY_VALUE
cdef int INT64, INT32, UINT32, BOOL, ENUM
cdef int FIXED32, FIXED64, FLOAT, DOUBLE
cdef int GROUP, KEY

@cython.locals(max_depth=Py_ssize_t, max_nodes='long long', max_string='long long', exact=bint, names=list, pos=Py_ssize_t,
               end=Py_ssize_t, nodes='long long', rows=dict, began=Py_ssize_t, closing='long long', via='long long',
               after=Py_ssize_t, key=bytes, stack=list, at=Py_ssize_t, tag='long long', row=tuple, kind=int, is_key=bint,
               size=Py_ssize_t, start=Py_ssize_t, text=bytes, count='long long', strange=bint, first=int,
               ended='long long', entry=bytes, keys=dict, members=set, any_listed=bint)
cpdef scan(bytes data, find, limits, str unknown)
@cython.locals(pos=Py_ssize_t, byte=object)
cdef tuple _number(bytes data, Py_ssize_t at, Py_ssize_t end)
cdef tuple _small(bytes data, Py_ssize_t at, Py_ssize_t end)
@cython.locals(fits=bint)
cdef bint _check_number(object value, tuple row, int kind, object plan, long long tag, Py_ssize_t at) except -1

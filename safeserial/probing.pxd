# The C types of probing.py.
cimport cython

cdef bint COMPILED
cdef long long UNKNOWN, _LINEAR_PROBES, _LARGE_SET, _UNSIGNED, _DICT_STEPS, _SET_STEPS, _EQUAL, _PLACE

cdef long long[::1] _table(Py_ssize_t size)
cdef long long[::1] _numbers(hashes)
@cython.locals(total='long long', size='long long', last='long long', steps='long long', ceiling='long long', mask='long long',
               room='long long', spare='long long', value='long long', i='long long', found='long long', equal='long long',
               perturb='long long', n=Py_ssize_t, table='long long[::1]', values='long long[::1]')
cpdef int slow_dict(hashes, bint distinct=*) except -1
@cython.locals(total='long long', ceiling='long long', size='long long', used='long long', steps='long long', spare='long long',
               value='long long', at='long long', more='long long', n=Py_ssize_t, table='long long[::1]', values='long long[::1]')
cpdef int slow_set(hashes, bint distinct=*) except -1
@cython.locals(start='long long', end='long long', i='long long', perturb='long long', steps='long long', equal='long long',
               found='long long')
cdef long long _seek(long long[::1] table, long long mask, long long value) except -1
@cython.locals(larger='long long', i='long long', steps='long long', wanted='long long', value='long long', at='long long', moved='long long[::1]')
cdef tuple _grown(long long[::1] table, long long size, long long used, long long ceiling)

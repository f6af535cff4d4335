# The C types of header.py.
cimport cython

cdef extern from *:
    """
    #define unwritten(size) PyBytes_FromStringAndSize(NULL, size)
    """
    object unwritten(Py_ssize_t size)

cdef bint COMPILED

@cython.locals(at=Py_ssize_t, end=Py_ssize_t, stop=Py_ssize_t, tag='long long', last='long long', fixed=tuple, value=bytes,
               issued_at_ms='unsigned long long', expires_at_ms='unsigned long long', number='unsigned char',
               method='unsigned char', raw_len='unsigned long long', version='unsigned long long', purpose_len='unsigned char')
cpdef parse_claims(bytes header, prefix)
@cython.locals(value='unsigned long long', i=Py_ssize_t)
cdef unsigned long long _number(bytes raw, Py_ssize_t at, Py_ssize_t length) except? 0
cdef str _decode(bytes raw, Py_ssize_t at)
cdef bytes _exactly(Py_ssize_t length, bytes value, long long tag, Py_ssize_t at)
@cython.locals(extensions=bytes, header_len=Py_ssize_t)
cpdef bytes encode_header(suite, kid, claims)
@cython.locals(found=bytes)
cdef bytes _encode_extensions(claims)
cdef bytes _encode_tlv(long long tag, bytes value)

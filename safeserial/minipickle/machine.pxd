# The C types of machine.py: tables are typed memoryviews, counts are machine integers, and every index stays checked.
cimport cython

# Those of constants.py, as constants of C: what stands in a variable is read anew after each call.
cdef extern from *:
    """
    enum {
        K_BOOL = 2, K_INT = 4, K_STR = 16, K_BYTES = 32, K_BYTEARRAY = 64, K_TUPLE = 128, K_LIST = 256, K_DICT = 512,
        K_SET = 1024, K_FROZENSET = 2048, K_INSTANCE = 4096, K_GLOBAL = 0x4000, K_SPECIAL = 0x8000, KINDS = 0xffff,
        K_CONTAINERS = 3968, K_NAMES = 0xc000, K_RAW = 96, K_CONSTANTS = 116, F_TAINT = 0x10000, F_BARE = 0x20000,
        F_UNHASHABLE = 0x40000, F_INSTANCE = 0x80000, F_CALL = 0x100000, F_HELD = 0x200000, F_OPEN = 0x400000,
        F_BUILT = 0x800000, F_SEALED = 0x1000000, F_NODES = 0x2000000, INHERITED = 0xf0000,
        GROWN_INHERITED = 0x90000, R_REFERENCE = 1, R_CALL = 2, R_NEW = 4, R_BUILD = 8, R_SETSTATE = 16,
        R_FRESH = 32, R_LIST = 64, R_DICT = 128, R_SET = 256, R_CLASS = 512, R_HASHABLE = 1024, R_HASHES = 2048,
        R_PLAIN_STATE = 0x100000, R_DATA_STATE = 0x200000, R_FLAT_STATE = 0x400000, SP_GETATTR = 1, SP_HOLDER = 2,
        SP_BASE = 3, SP_RECONSTRUCTOR = 4, SP_NEWOBJ = 5, SP_NEWOBJ_EX = 6, SP_PARTIAL = 7, SP_MAKER = 8,
        SP_UNSET = 9, SP_READY = 10, P_DATA = 1, P_ANY = 2, P_KIND = 3, P_CHARS = 4, PATTERN_INTS = 6, COMPILED = 1,
        LARGE_TABLE = 64, FREE_LIST = 256, BY_WORK = -1, BY_COPY = -2, SLACK = 16,
        MAX_NAME_BYTES = 255, LONGEST_ESCAPE = 6, FEW_ARGUMENTS = 9, LONG_SPAN = 4096, CEILING = 0x7fffffff,
        SMALL_TABLE = 64, MANY_SPELLINGS = 4096, SMALL_SPARE_BYTES = 0x200000, SPARE_BYTES = 0x1c00000,
        SPARE_RUNS = 64, BYTES_FOR_ONE = 128, SLOW_COMPARISON = 64, FEW_DIGITS = 600, PART_COST = 16, MADE_COST = 80, TOKEN_COST = 48,
        TEXT_COST = 120, SHORT_TEXT = 3, SHORT_FLOAT = 40, DEEPEST_TOKEN = 64, DEEP_KEY = 8
    };
    #define TUPLE_START 2870177450012600261ULL
    #define TUPLE_TURNED 11400714785074694791ULL
    #define TUPLE_LANE 14029467366897019727ULL
    #define LOW_HALF 0xffffffffULL
    #define LOW_TURNED 0x1ffffffffULL
    #define ALL_BITS 0xffffffffffffffffULL
    #define SATURATED 0x2000000000000000LL
    #define SLOWEST 0x10000000LL
    #define HIGH_BITS 0x8080808080808080ULL
    """
    const bint COMPILED
    const unsigned long long HIGH_BITS, TUPLE_START, TUPLE_TURNED, TUPLE_LANE, LOW_HALF
    const unsigned long long LOW_TURNED, ALL_BITS
    const long long K_BOOL, K_INT, K_STR, K_BYTES, K_BYTEARRAY, K_TUPLE, K_LIST, K_DICT, K_SET, K_FROZENSET
    const long long K_INSTANCE, K_GLOBAL, K_SPECIAL, KINDS, K_CONTAINERS, K_NAMES, K_RAW, K_CONSTANTS
    const long long F_TAINT, F_BARE, F_UNHASHABLE, F_INSTANCE, F_CALL, F_HELD, F_OPEN, F_BUILT, F_SEALED
    const long long F_NODES, INHERITED, GROWN_INHERITED, R_REFERENCE, R_CALL, R_NEW, R_BUILD, R_SETSTATE
    const long long R_FRESH, R_LIST, R_DICT, R_SET, R_CLASS, R_HASHABLE, R_HASHES, R_PLAIN_STATE
    const long long R_DATA_STATE, R_FLAT_STATE, SP_GETATTR, SP_HOLDER, SP_BASE, SP_RECONSTRUCTOR, SP_NEWOBJ
    const long long SP_NEWOBJ_EX, SP_PARTIAL, SP_MAKER, SP_UNSET, SP_READY, P_DATA, P_ANY, P_KIND, P_CHARS
    const long long PATTERN_INTS
    const long long LARGE_TABLE, FREE_LIST, BY_WORK, BY_COPY, SLACK, MAX_NAME_BYTES
    const long long LONGEST_ESCAPE, FEW_ARGUMENTS, LONG_SPAN, SATURATED, SLOWEST, CEILING, SMALL_TABLE
    const long long MANY_SPELLINGS, SMALL_SPARE_BYTES, SPARE_BYTES, SPARE_RUNS, BYTES_FOR_ONE, SLOW_COMPARISON
    const long long FEW_DIGITS, PART_COST, MADE_COST, TOKEN_COST, TEXT_COST, SHORT_TEXT, SHORT_FLOAT, DEEPEST_TOKEN, DEEP_KEY

cdef long long _SALT
cdef list _SPARE
cdef bytes PLAIN_FORM

# Final, so that its methods are called directly, and short ones not at all.
@cython.final
cdef class Machine:
    cdef readonly Py_ssize_t total, cap, marks_cap, memo_cap, node_cap, items_cap
    cdef readonly bytes data
    cdef readonly bytes canonical
    cdef readonly object allow, limits, trace, holders
    cdef readonly long long max_nodes, max_depth, max_weight, max_hash_cost, max_key_depth
    cdef readonly long long max_string, max_stack, max_memo, max_calls, max_instances, max_opcodes, max_bits
    cdef readonly bint no_nan, careful, vague, is_sparse, may_fuse, has_bytearray, odd_keys
    cdef readonly long long buffers, used_buffers, protocol
    cdef readonly long long values, opcodes, instances, calls, call_weight, hash_cost, giants, dense_total
    cdef readonly Py_ssize_t nodes, items_used, marks_used, memo_used, copied
    cdef readonly int[::1] stack, marks, memo
    cdef readonly int[::1] head, depth, weight, entry, where, first, count, items
    cdef readonly int[::1] edge_to, edge_gap, edge_next, edge_first, edge_last, loose, seen_in, seen_depth, path, turn
    cdef readonly long long[::1] seen_weight
    cdef readonly long long[::1] hashed
    cdef readonly int[::1] climb, climbed
    cdef readonly Py_ssize_t hashed_cap, climb_cap
    cdef readonly long long int_key
    cdef readonly Py_ssize_t edges_cap, edges_used
    cdef readonly long long walks, number, idle
    cdef readonly unsigned char[::1] out_bytes
    cdef readonly Py_ssize_t out_cap, out_used
    cdef readonly dict partials, states, sparse, good_keys, row_index, special, hashes, buckets, opaque, first_keys, dense
    cdef readonly dict keys_seen, key_values, args_of, grown, given, looked_at, lone, flat_states
    cdef readonly set even_keys, states_fitted, flat_keys, accepted, let_go
    cdef readonly dict by_spelling, fitted, texts, offsets
    cdef readonly list large, rows, patterns, letters, pieces, names
    cdef readonly long long[::1] rights, made, cost, code_at, codes
    cdef readonly Py_ssize_t rows_cap, codes_cap, codes_used
    cdef readonly bytearray out
    cdef readonly object unlisted
    cdef readonly const unsigned long long[::1] words
    cdef readonly Py_ssize_t words_count

    @cython.locals(root='long long')
    cdef outcome(self)
    @cython.locals(i=Py_ssize_t)
    cdef bint forget(self) except -1
    @cython.locals(ints='long long', size='long long')
    cdef bint is_kept(self) except -1
    cdef bint begin_edges(self) except -1
    cdef bint begin_hashed(self) except -1
    cdef bint begin(self, bytes data, allow, limits, long long buffers, bint careful, trace) except -1
    @cython.locals(root='long long', rest=bytes, header=bytes)
    cdef bint finish(self, Py_ssize_t at, Py_ssize_t sp) except -1
    @cython.locals(i=Py_ssize_t)
    cdef bint replace(self, Py_ssize_t start, Py_ssize_t stop, bytes new) except -1
    @cython.locals(i=Py_ssize_t, used=Py_ssize_t)
    cdef bint catch_up(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t more) except -1
    cdef bint grow_out(self, Py_ssize_t size) except -1
    cdef bytes written(self)
    cdef bint replace_op(self, Py_ssize_t start, Py_ssize_t stop, unsigned char op) except -1
    @cython.locals(used=Py_ssize_t)
    cdef bint replace_int(self, Py_ssize_t start, Py_ssize_t stop, long long value) except -1
    cdef bint replace_get(self, Py_ssize_t start, Py_ssize_t stop, long long order) except -1
    @cython.locals(i=Py_ssize_t, used=Py_ssize_t, raw=bytes)
    cdef bint replace_sized(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t place, Py_ssize_t length, bint is_text) except -1
    cdef Py_ssize_t stack_room(self, Py_ssize_t sp, Py_ssize_t at) except -1
    cdef bint grow_nodes(self) except -1
    @cython.locals(edge=Py_ssize_t)
    cdef bint add_edge(self, Py_ssize_t n, Py_ssize_t child, Py_ssize_t gap) except -1
    @cython.locals(n=Py_ssize_t)
    cdef Py_ssize_t node(self, long long head, long long depth, long long weight, Py_ssize_t at) except -1
    @cython.locals(n=Py_ssize_t)
    cdef Py_ssize_t empty(self, long long head) except -1
    @cython.locals(start=Py_ssize_t, i=Py_ssize_t, place=Py_ssize_t)
    cdef Py_ssize_t keep(self, Py_ssize_t low, Py_ssize_t high, Py_ssize_t step) except -1
    cdef bint grow_items(self) except -1
    cdef bint grow_marks(self) except -1
    @cython.locals(before='long long', last='long long')
    cdef bint remember_keys(self, Py_ssize_t n, Py_ssize_t low, Py_ssize_t high, Py_ssize_t step) except -1
    cdef bint absorb_keys(self, Py_ssize_t slot, Py_ssize_t low, Py_ssize_t high, long long large, Py_ssize_t at) except -1
    @cython.locals(hashes='long long[::1]')
    cdef bint check_kept(self, Py_ssize_t last, bint as_set, Py_ssize_t at) except -1
    @cython.locals(i=Py_ssize_t, slot='long long')
    cdef bint are_text(self, Py_ssize_t last) except -1
    @cython.locals(runs=list)
    cdef list runs_to(self, Py_ssize_t last)
    @cython.locals(runs=list, hashes='long long[::1]', base=Py_ssize_t, i=Py_ssize_t, place=Py_ssize_t)
    cdef long long[::1] hashes_in(self, Py_ssize_t last, Py_ssize_t at)
    @cython.locals(hashes='long long[::1]')
    cdef bint check_table(self, list slots, bint as_set, Py_ssize_t at) except -1
    @cython.locals(hashes='long long[::1]', i=Py_ssize_t)
    cpdef long long[::1] hashes_of(self, list slots, Py_ssize_t at)
    cdef token(self, long long slot)
    cdef made_hash(self, Py_ssize_t slot, str how, Py_ssize_t at)
    @cython.locals(first='long long', raw=object, text=object, offset=tuple, day='long long', at=Py_ssize_t, year='long long',
                   month=Py_ssize_t, hour='long long', micros='long long', seconds='long long')
    cdef moment_hash(self, Py_ssize_t slot)
    @cython.locals(span='long long', numbers=list)
    cdef tuple fixed_offset(self, long long slot)
    @cython.locals(keys=list)
    cdef uuid_hash(self, Py_ssize_t slot)
    cdef bint is_int_key(self, long long slot) except -1
    @cython.locals(slots=list, i=Py_ssize_t)
    cdef bint check_frozenset(self, Py_ssize_t low, Py_ssize_t high, Py_ssize_t at) except -1
    @cython.locals(n=Py_ssize_t, head='long long', last=Py_ssize_t)
    cdef bint check_large(self, Py_ssize_t at) except -1
    @cython.locals(runs=list, slots=list, base=Py_ssize_t, i=Py_ssize_t)
    cdef list kept(self, Py_ssize_t last)
    @cython.locals(hashes='long long[::1]', different='long long[::1]', places=set, once=set, again=set, seen=set, i=Py_ssize_t, k=Py_ssize_t)
    cdef long long[::1] unlike(self, list slots, long long[::1] hashes, Py_ssize_t at)
    @cython.locals(place=Py_ssize_t, head='long long')
    cdef Py_ssize_t slot_hash(self, long long slot, Py_ssize_t at) except? -1
    @cython.locals(data=bytes, op='unsigned char', low='long long', high='long long', i=Py_ssize_t)
    cdef Py_ssize_t constant_hash(self, Py_ssize_t place) except? -1
    @cython.locals(head='long long')
    cdef Py_ssize_t node_hash(self, Py_ssize_t slot, Py_ssize_t at) except? -1
    @cython.locals(top=Py_ssize_t, node=Py_ssize_t, child='long long', i=Py_ssize_t, stop=Py_ssize_t)
    cdef Py_ssize_t tuple_hash(self, Py_ssize_t slot, Py_ssize_t at) except? -1
    @cython.locals(low='unsigned long long', high='unsigned long long')
    cdef unsigned long long times_plus(self, unsigned long long one, unsigned long long other, unsigned long long more) except? 0
    @cython.locals(total='unsigned long long', i=Py_ssize_t, child='long long', value='long long')
    cdef Py_ssize_t mixed(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t at) except? -1
    @cython.locals(i=Py_ssize_t, child='long long', parts=list)
    cdef Py_ssize_t sum_of(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t at) except? -1
    cpdef Py_ssize_t count_of(self, Py_ssize_t slot) except -1
    @cython.locals(at=Py_ssize_t)
    cpdef Py_ssize_t kind_of(self, long long slot) except -1
    cpdef Py_ssize_t special_of(self, long long slot) except -1
    @cython.locals(data=bytes, op='unsigned char', size=Py_ssize_t, stop=Py_ssize_t)
    cpdef constant(self, Py_ssize_t place)
    cdef text_at(self, Py_ssize_t place, Py_ssize_t start, Py_ssize_t size)
    cpdef name_of(self, Py_ssize_t slot)
    cpdef bint is_tainted(self, long long slot) except -1
    cpdef bint is_bare(self, long long slot) except -1
    cpdef bint is_nested(self, long long slot) except -1
    cpdef Py_ssize_t args_kind(self, long long slot) except -1
    cpdef bint has_instance(self, long long slot) except -1
    cpdef bint is_held(self, long long slot) except -1
    cpdef Py_ssize_t offset_of(self, long long slot) except -1
    @cython.locals(k='long long', mine='long long', weight='long long',
                   gained='long long', depth='long long', shared=bint, i=Py_ssize_t, slot='long long', theirs='long long',
                   below='long long')
    cdef bint absorb(self, Py_ssize_t n, Py_ssize_t low, Py_ssize_t high, Py_ssize_t at) except -1
    @cython.locals(n=Py_ssize_t)
    cdef Py_ssize_t make_tuple(self, Py_ssize_t low, Py_ssize_t high, Py_ssize_t at) except -1
    cdef bint may_grow(self, long long slot, Py_ssize_t at, long long plain, long long right) except -1
    cdef bint add_items(self, long long slot, Py_ssize_t low, Py_ssize_t high, Py_ssize_t at) except -1
    cdef bint add_pairs(self, long long slot, Py_ssize_t low, Py_ssize_t high, Py_ssize_t at) except -1
    cdef bint are_constants(self, Py_ssize_t low, Py_ssize_t high, Py_ssize_t step) except -1
    @cython.locals(keys=object, items=object)
    cdef bint quick_keys(self, Py_ssize_t n, Py_ssize_t low, Py_ssize_t high) except -1
    cdef bint add_members(self, long long slot, Py_ssize_t low, Py_ssize_t high, Py_ssize_t at) except -1
    @cython.locals(seen=set, i=Py_ssize_t, slot='long long')
    cdef bint check_once(self, Py_ssize_t n, Py_ssize_t low, Py_ssize_t high, Py_ssize_t at) except -1
    cdef key_value(self, long long slot)
    cdef bint charge_hash(self, long long cost, Py_ssize_t at) except -1
    @cython.locals(i=Py_ssize_t, slot='long long', op='unsigned char')
    cdef bint check_keys(self, Py_ssize_t n, Py_ssize_t low, Py_ssize_t high, Py_ssize_t step, Py_ssize_t at) except -1
    @cython.locals(head='long long', depth='long long', weight='long long', before='long long')
    cdef bint check_key(self, Py_ssize_t n, long long slot, Py_ssize_t at) except -1
    @cython.locals(node=Py_ssize_t, child=Py_ssize_t, edge=Py_ssize_t, above=Py_ssize_t, top=Py_ssize_t,
                   steps='long long', deepest='long long', walk='long long')
    cdef bint survey(self, Py_ssize_t root, Py_ssize_t at) except -1
    @cython.locals(node=Py_ssize_t, child=Py_ssize_t, edge=Py_ssize_t, top=Py_ssize_t, walk='long long')
    cdef bint check_reach(self, long long root, Py_ssize_t at) except -1
    cdef Py_ssize_t own_weight(self, Py_ssize_t node) except -1
    cdef bint check_float(self, Py_ssize_t n, Py_ssize_t place, Py_ssize_t at) except -1
    @cython.locals(bucket=dict, before='long long')
    cdef bint collide(self, Py_ssize_t n, value, long long weight, Py_ssize_t at) except -1
    @cython.locals(before='long long', cost='long long')
    cdef bint check_made_key(self, Py_ssize_t n, Py_ssize_t slot, long long weight, Py_ssize_t at) except -1
    @cython.locals(cost='long long', i=Py_ssize_t)
    cdef bint note_dense(self, Py_ssize_t n, Py_ssize_t low, Py_ssize_t high) except -1
    @cython.locals(cost='long long', slot='long long', part='long long')
    cdef bint note_made(self, Py_ssize_t n, Py_ssize_t base, Py_ssize_t k) except -1
    @cython.locals(bucket=dict, most='long long')
    cdef bint keep_dense(self, Py_ssize_t n, long long cost) except -1
    @cython.locals(weight='long long', open_ends=list, child='long long')
    cdef Py_ssize_t comparing(self, Py_ssize_t slot) except -1
    cdef bint is_hashing(self, Py_ssize_t slot) except -1
    cdef Py_ssize_t instance_of_members(self, Py_ssize_t index, Py_ssize_t base, Py_ssize_t k, Py_ssize_t args, Py_ssize_t at,
                                        long long flags) except -1
    @cython.locals(part='long long')
    cdef bint check_floats(self, Py_ssize_t slot, Py_ssize_t n, Py_ssize_t at) except -1
    @cython.locals(frames=list, done=list, walked=dict, node=Py_ssize_t, child='long long', unknown=bint, vague=bint)
    cdef known_hash(self, Py_ssize_t slot, Py_ssize_t at)
    cdef grow_rows(self)
    cdef grow_codes(self)
    @cython.locals(index=Py_ssize_t, place=Py_ssize_t)
    cdef Py_ssize_t use_row(self, row) except -1
    cdef Py_ssize_t global_node(self, dotted, Py_ssize_t at) except -1
    cdef bint keep_spelling(self, key, Py_ssize_t n, bytes new) except -1
    cdef Py_ssize_t same_special(self, Py_ssize_t n, Py_ssize_t at) except -1
    cdef bint note_name(self, Py_ssize_t n, Py_ssize_t at) except -1
    @cython.locals(data=bytes, first=Py_ssize_t, second=Py_ssize_t, stop=Py_ssize_t)
    cdef name_key(self, long long module, long long name, Py_ssize_t at)
    cdef Py_ssize_t lines_end(self, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(lines=bytes, n=Py_ssize_t, new=bytes)
    cdef Py_ssize_t global_lines(self, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(module_slot='long long', name_slot='long long', n=Py_ssize_t, new=bytes)
    cdef Py_ssize_t stack_global(self, Py_ssize_t at, Py_ssize_t sp) except -1
    @cython.locals(owner='long long', attribute='long long', n=Py_ssize_t, new=bytes)
    cdef Py_ssize_t fold(self, Py_ssize_t base, Py_ssize_t k, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(data=bytes, start=Py_ssize_t, stop=Py_ssize_t, length='long long')
    cdef Py_ssize_t sized(self, Py_ssize_t at, Py_ssize_t end, Py_ssize_t width, long long codes, Py_ssize_t sp) except -1
    cdef bint push_long(self, long long kind, long long length, Py_ssize_t at, Py_ssize_t sp) except -1
    @cython.locals(data=bytes, width=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t, size='unsigned long long')
    cdef Py_ssize_t long_int(self, Py_ssize_t at, Py_ssize_t end, Py_ssize_t sp) except -1
    @cython.locals(data=bytes, i=Py_ssize_t, value='long long', part='long long', shift='long long')
    cdef Py_ssize_t small_long(self, Py_ssize_t at, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t sp) except -1
    @cython.locals(data=bytes, i=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t, value='long long', negative=bint)
    cdef Py_ssize_t read_digits(self, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(data=bytes, i=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t, quote='unsigned char', is_string=bint,
                   longest='long long', length='long long', escapes='long long', width=Py_ssize_t)
    cdef Py_ssize_t short_line(self, Py_ssize_t at, Py_ssize_t end) except -1
    @cython.locals(data=bytes, i=Py_ssize_t, start=Py_ssize_t, points='long long')
    cdef bint is_short_float(self, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(data=bytes, last='unsigned char', is_hex=bint)
    cdef Py_ssize_t escape_width(self, Py_ssize_t i, Py_ssize_t stop) except -1
    @cython.locals(data=bytes, used=Py_ssize_t, place=Py_ssize_t, letter='long long')
    cdef bint write_escaped(self, Py_ssize_t at, Py_ssize_t stop, Py_ssize_t i, Py_ssize_t length) except -1
    @cython.locals(data=bytes, op='unsigned char', stop=Py_ssize_t)
    cdef Py_ssize_t text_literal(self, Py_ssize_t at, Py_ssize_t end, Py_ssize_t sp) except -1
    cdef bint push_giant(self, value, Py_ssize_t at, Py_ssize_t sp) except -1
    cdef bint put(self, long long key, long long slot, Py_ssize_t at) except -1
    @cython.locals(data=bytes, key='long long')
    cdef Py_ssize_t memo_key(self, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(key='long long', order='long long', width=Py_ssize_t)
    cdef Py_ssize_t get(self, Py_ssize_t at, Py_ssize_t stop) except? -1
    @cython.locals(i=Py_ssize_t, stop=Py_ssize_t)
    cdef Py_ssize_t line_end(self, Py_ssize_t at, Py_ssize_t end) except -1
    cdef Py_ssize_t memo_room(self) except -1
    cdef bint put_line(self, Py_ssize_t at, Py_ssize_t stop, long long slot) except -1
    @cython.locals(weight='long long', cost='long long', n=Py_ssize_t)
    cdef Py_ssize_t instance(self, Py_ssize_t index, Py_ssize_t args, Py_ssize_t at, long long flags) except -1
    @cython.locals(slot='long long', size='long long', i=Py_ssize_t)
    cdef Py_ssize_t work_at(self, Py_ssize_t index, Py_ssize_t base, Py_ssize_t k) except -1
    cdef bint charge_call(self, long long weight, Py_ssize_t at) except -1
    cdef bint count_call(self, Py_ssize_t at) except -1
    cdef bint count_instance(self, Py_ssize_t at) except -1
    cdef Py_ssize_t made_from(self, Py_ssize_t n, Py_ssize_t base, Py_ssize_t k) except -1
    cdef bint check_arguments(self, Py_ssize_t index, Py_ssize_t base, Py_ssize_t k, Py_ssize_t at) except -1
    @cython.locals(c=Py_ssize_t, left='long long', i=Py_ssize_t, slot='long long', fixed=Py_ssize_t,
                   least=Py_ssize_t, rest=Py_ssize_t)
    cdef bint accepts(self, Py_ssize_t index, Py_ssize_t base, Py_ssize_t k) except -1
    @cython.locals(op='long long', kind='long long', size='long long', start=Py_ssize_t, i=Py_ssize_t,
                   letters=bytes)
    cdef bint fits(self, long long slot, Py_ssize_t c) except -1
    @cython.locals(data=bytes, op='unsigned char')
    cdef Py_ssize_t short_size(self, Py_ssize_t at, long long kind) except? -1
    cdef Py_ssize_t as_tuple(self, long long slot, Py_ssize_t at) except -1
    @cython.locals(index=Py_ssize_t, rights='long long', base=Py_ssize_t, k=Py_ssize_t)
    cdef Py_ssize_t call(self, long long function, long long args, Py_ssize_t at, Py_ssize_t stop) except -1
    @cython.locals(slot='long long', cost='long long', weight='long long', edge=Py_ssize_t, n=Py_ssize_t)
    cdef bint check_nodes(self, long long slot, Py_ssize_t at) except -1
    @cython.locals(slot='long long')
    cdef bint check_members(self, Py_ssize_t base, Py_ssize_t k, Py_ssize_t at) except -1
    @cython.locals(special='long long', base=Py_ssize_t, k=Py_ssize_t, n=Py_ssize_t)
    cdef Py_ssize_t call_special(self, Py_ssize_t function, Py_ssize_t args, Py_ssize_t at, Py_ssize_t stop) except -1
    cdef Py_ssize_t listed_class(self, long long slot, Py_ssize_t at) except -1
    @cython.locals(index=Py_ssize_t)
    cdef Py_ssize_t new(self, long long cls, Py_ssize_t base, Py_ssize_t k, Py_ssize_t args, Py_ssize_t at) except -1
    @cython.locals(index=Py_ssize_t, flags='long long', rights='long long', part='long long', weight='long long')
    cdef bint build(self, long long target, long long state, Py_ssize_t at) except -1
    @cython.locals(run=Py_ssize_t, i=Py_ssize_t)
    cdef bint is_flat_state(self, Py_ssize_t index, long long state) except -1
    @cython.locals(run=Py_ssize_t, stop=Py_ssize_t, i=Py_ssize_t, slot='long long', place=Py_ssize_t)
    cdef bint is_plain_state(self, Py_ssize_t index, long long state) except -1
    @cython.locals(i=Py_ssize_t, slot='long long', head='long long')
    cdef bint discard(self, Py_ssize_t low, Py_ssize_t sp, Py_ssize_t at) except -1
    cpdef bint run(self) except -1
    @cython.locals(data=bytes, total=Py_ssize_t, stack='int[::1]', marks='int[::1]', memo='int[::1]',
                   max_string='long long', max_stack='long long', narrow=bint, no_nan=bint, cap=Py_ssize_t,
                   pos=Py_ssize_t, floor=Py_ssize_t, sp=Py_ssize_t, mp=Py_ssize_t, at=Py_ssize_t, used=Py_ssize_t,
                   fused=Py_ssize_t, end=Py_ssize_t, framed=bint, dense=bint, room=Py_ssize_t, n=Py_ssize_t,
                   k=Py_ssize_t, ops=Py_ssize_t, marks_room=Py_ssize_t, void='long long', op='unsigned char')
    cdef bint loop(self) except -1
    @cython.locals(i=Py_ssize_t, first=Py_ssize_t, last=Py_ssize_t, found='unsigned long long')
    cdef bint scan_text(self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t at) except -1
    @cython.locals(data=bytes, length='long long', more='long long')
    cdef Py_ssize_t frame_end(self, Py_ssize_t at, Py_ssize_t start) except -1
    @cython.locals(n=Py_ssize_t, i=Py_ssize_t, slot='long long', weight='long long')
    cdef Py_ssize_t bundle(self, Py_ssize_t sp, Py_ssize_t at) except -1

@cython.locals(machine=Machine)
cpdef run_over(bytes data, allow, limits, long long buffers)
cdef Machine with_care(Machine machine, bytes data, allow, limits, long long buffers)
cdef bint put_back(Machine machine) except -1
@cython.locals(total=Py_ssize_t, pos=Py_ssize_t, form='long long')
cpdef bint is_plain(bytes data) except -1

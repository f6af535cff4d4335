"""The techniques that the hostile vectors use: what each is for, in five groups.

``code``: runs what the sender chose. ``state``: changes what others in the process share, or plants what is called
later. ``cost``: takes memory, time or the process down. ``smuggle``: two readers see two things in the same bytes.
``grammar``: no pickle at all; every reader should say so.
"""

from __future__ import annotations

__all__ = ["GROUPS", "TECHNIQUES"]

GROUPS = ("code", "state", "cost", "smuggle", "grammar")

_TEXT = """
code
    unlisted-global         a name that nobody listed
    unlisted-inst           the same by INST
    unlisted-obj            the same by OBJ
    unlisted-newobj         the same by NEWOBJ and NEWOBJ_EX
    unlisted-value          a callable as a value, for whoever calls it later
    fix-imports-name        Python 2's name for something that is not listed
    computed-name           a name that is no constant
    dotted-reach            a dotted name that walks out of a listed one
    prefix-of-a-name        a name that only resembles a listed one
    getattr-chain           getattr of a listed class, towards what is not listed
    getattr-target          getattr of an instance, a result or a constant
    getattr-name            getattr with an attribute that is no plain constant name
    getattr-as-value        getattr itself, handed on
    base-class-as-value     a built-in class that may stand in one place only, elsewhere
    base-class-called       the same, called
    reconstructor-as-value  copyreg's functions, handed on
    reconstructor-misused   copyreg's functions with arguments that pickle does not give them
    class-as-value          a listed class where data is expected
    late-class              a class put into a container that was passed as data before
    misfit-arguments        a listed callable with arguments outside its patterns
    misfit-arguments-newobj the same by NEWOBJ and NEWOBJ_EX
    misfit-arguments-old    the same by INST and OBJ
    codec-as-tool           _codecs.encode as a way to run other codecs
    call-of-no-name         an instance, a result or a constant is called
    reference-called        what is listed as a value only is called
    new-of-no-class         NEWOBJ of what is no listed class
    arguments-no-tuple      arguments that are no tuple
    open-bounds             arguments outside a bound that is open on one side
    pattern-of-constants    a container where a constant is asked for
    pattern-of-names        an instance where its class is asked for
    pattern-of-letters      a letter that is not listed
    pattern-without-sense   a pattern that nobody can fit
    keywords                keyword arguments that nobody granted
    pop-hides-call          a call whose result is thrown away
    lost-with-a-cycle       a call whose result only a cycle holds that is thrown away
    persistent-id           the reader's own resolver, fed by the sender
    ext-cache               extension codes, which a warm cache answers unasked
    interpreter-in-stdlib   a function of the standard library that runs text
    interpreter-in-a-library a function of a library that runs text
    command-runner          a function that starts a process
    import-by-name          a function that fetches any object by its name
    callable-from-callable  partial, attrgetter, map: callables made of callables
    code-object             code objects and functions built from bytes
    pickle-in-a-pickle      a function that loads a second pickle
    file-or-socket          a function that opens a file or a connection
    process-state           a function that changes the process for everybody
    foreign-code            a function that calls into memory
    scanner-switched-off    a function that turns the guard off
    call-then-build         a BUILD behind a call, so that its result looks used
    call-then-pop           a call of the old kind whose result is dropped
    import-then-getattr     import by a call, then attributes one by one
    partial-chain           a factory that calls for the sender later
    partial-state           a partial that is set to call something else than its class's __new__
    partial-call            a partial made or called in another way than pickle does
    partial-as-value        a partial handed on, for whoever calls it
    proxy-getattr           a proxy that answers for what it wraps
    nested-payload          a second pickle inside the first
    raw-reconstructor       a library's own reconstructor, which trusts its input with memory
state
    build-on-class          BUILD on a class
    build-on-function       BUILD on a function
    build-on-module         BUILD on a module
    build-on-shared         BUILD on what others hold too: an enum member, a cached object
    build-on-constant       BUILD on a constant or a container
    build-without-right     BUILD on an instance whose class takes no state
    build-twice             BUILD on what has its state already
    dunder-state            state that sets a special attribute
    slot-state-dunder       slot state that sets a special attribute
    slot-state-property     slot state that runs a property's setter
    reserved-attribute      state that sets a C member which its class trusts
    state-no-dict           state that is no dict of attributes
    state-key-no-str        attribute names that are no str
    class-in-state          a class in the state of an instance
    own-setstate            a class's own __setstate__ with what its pattern does not admit
    state-grows-later       a state dict that grows after it was judged
    planted-method          items put into an instance after state planted its append
    items-on-class          APPEND, SETITEM or ADDITEMS on a class
    items-on-function       the same on a function
    items-on-instance       the same on an instance that is no such container
    items-on-shared         the same on what others hold too
    items-on-constant       the same on a constant or another container
    items-on-stdlib         the same on types of the standard library
    empty-items             the same with no item, where the method is looked up all the same
    state-of-arrays         state that numpy would believe: of what is shared, or of other bytes than there are
cost
    deep-key                a key nested so deep that hashing it ends the process
    key-twice               a key that a dict has already, so that what closed a cycle is lost
    deep-set-call           the same in a list that a call makes a set of
    unhashable-key          a key that cannot be hashed, or hashes as its class likes
    shared-key              a key that shares itself: 2^64 steps from 135 bytes
    hash-collision-ints     numbers that all have one hash
    hash-collision-tuples   tuples that all have one hash
    hash-collision-floats   floats that all have one hash
    hash-collision-instances instances that may all have one hash
    hash-path-dict          keys whose hashes differ, and that walk past each other all the same
    hash-path-set           the same in a set
    hash-path-calls         the same in a list that a call makes a set of
    hash-collision-calls    the same in a list that a call makes a set of
    many-keys               more keys than the ceiling
    key-with-a-list-inside  a key that holds itself through a list
    class-as-key            a class as a key
    late-sharing            a graph that grows heavy after its parts were weighed
    memo-index-bomb         a memo number that allocates a gigabyte
    memo-flood              more memo entries than the ceiling
    quadratic-number        a number too long to convert
    claimed-length          a length that allocates what it claims
    shared-tuple            a tuple that shares itself
    billion-laughs          containers that share each other
    heavy-state             state that weighs too much
    heavy-calls             calls that copy a shared argument each
    deep-nesting            containers nested deeper than any walker stands
    many-opcodes            more opcodes than the ceiling
    many-values             more stack than the ceiling
    many-nodes              more values than the ceiling
    many-instances          more instances than the ceiling
    many-calls              more calls than the ceiling
    long-string             a string longer than the ceiling
    constructor-bomb        a listed constructor whose arguments make gigabytes
    regex-bomb              a pattern that takes for ever
    at-the-ceiling          one more than a ceiling, or than a rule, admits
    one-too-many            one more than fits, at the edge of a table
    not-finite              NaN and infinity where they are no values
smuggle
    concatenated            a second pickle behind the first
    hidden-tail             other bytes behind the first
    stop-leaves-values      values or marks left on the stack
    proto-repeated          a PROTO in the middle, which changes how names are mapped
    frame-straddle          an argument across a frame's end: executed here, data there
    frame-nested            a frame in a frame
    frame-too-long          a frame longer than the data
    frame-past-stop         a frame that goes on behind STOP
    frame-cut               a frame whose length is cut
    frame-low-protocol      a frame below protocol 4
    memo-name               a name whose operands are fetched by number
    text-operands           a name whose operands are text opcodes
    decoy-import            a name that a scanner reads from the wrong strings
    broken-tail             a call in front of bytes that stop a scanner
    mirrored-index          a constant whose place, read from the end, meets another value
    memo-unwritten          a memo number that was never written
    memo-rewritten          a memo number that is written twice
    memo-of-folded-call     a memo number whose value was folded away
    memo-is-no-hiding-place what is refused, fetched from the memo instead
    number-spelling         integers that C and Python read differently
    float-overflow          floats that overflow for one reader and not for the other
    float-spelling          floats that C and Python read differently
    memo-number-spelling    memo numbers that C and Python read differently
    signed-length           lengths that C reads as negative
    odd-string              quoted strings that repr does not write
    python2-bytes           Python 2's str with bytes whose reading is an option
    malformed-name          a name that is no dotted identifier
    buffer-missing          more out-of-band buffers taken than passed
    buffer-unused           fewer taken than passed
    readonly-of-no-buffer   READONLY_BUFFER of what is no buffer
    buffer-as-target        a buffer as key, name, callable or target
grammar
    stop-on-nothing         STOP without a value
    no-stop                 no STOP
    argument-cut            an argument that passes the end
    unknown-opcode          a byte that is no opcode
    proto-unknown           a protocol that does not exist
    stack-underflow         an opcode that takes more than there is
    mark-missing            an opcode whose mark is missing
    mark-as-value           an opcode that would take a mark for a value
    key-without-value       an odd number of keys and values
    not-utf8                text that is not UTF-8
    takes-from-nowhere      an opcode that reaches below the stack or its mark
"""


def _read() -> dict[str, tuple[str, str]]:
    out: dict[str, tuple[str, str]] = {}
    group = ""
    for line in _TEXT.strip("\n").split("\n"):
        if not line.startswith(" "):
            group = line
            continue
        slug, _, what = line.strip().partition(" ")
        out[slug] = (group, what.strip())
    return out


#: Slug: its group, and what it is.
TECHNIQUES: dict[str, tuple[str, str]] = _read()

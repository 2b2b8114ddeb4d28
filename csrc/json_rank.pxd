# The schema of POST /v1/rank over the scanner: leaves without GIL and without Python objects.
#
# {"user": id, "items": [id | {"id": id, "features": {name: number}}, ...], "ranker"?: name,
#  "top_k"?: 1.., "timeout_ms"?: number > 0, "explain"?: bool}
#
# Every function returns False after a fault, which the scanner and the place remember.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp
from libcpp cimport bool
from libcpp.vector cimport vector

from json_scan cimport (
    Candidates, Id, Place, Scanner, Span, Text, Unknown, kItemMembers, kRankMembers, next_member,
    read_id,
)


cdef struct Columns:
    # Names with a number each (features, attributes); stamps[c] is the row that last set c.
    const Text* names
    size_t count
    uint32_t* stamps


cdef struct RankFields:
    Id user
    Span ranker
    uint64_t top_k
    double timeout_ms
    bool explain
    bool strings  # kind of all items, set by the first
    uint32_t seen  # a bit per member of kRankMembers


cdef inline size_t column_of(const Text* name, const Text* names, size_t count,
                             size_t guess) noexcept nogil:
    # Names mostly come in the same order: the search starts at the one after the last.
    cdef size_t i, place
    for i in range(count):
        place = guess + i
        if place >= count:
            place -= count
        if names[place].size == name.size and memcmp(names[place].data, name.data, name.size) == 0:
            return place
    return count


cdef inline int next_column(Scanner* scan, Columns* columns, Place* place, uint32_t stamp,
                            size_t* column, bool first) noexcept nogil:
    # As next_member, for an object of numbers whose names are columns.
    cdef Text name
    cdef int more = scan.member(&name, first)
    if more <= 0:
        return more
    place.name = name
    column[0] = column_of(&name, columns.names, columns.count, column[0])
    if column[0] == columns.count:
        place.unknown = Unknown.kColumn
        return scan.fault("unknown name")
    if columns.stamps[column[0]] == stamp:
        return scan.fault("comes twice")
    columns.stamps[column[0]] = stamp
    return 1


cdef inline bool scan_features(Scanner* scan, Columns* columns, Place* place,
                               Candidates* items) noexcept nogil:
    cdef size_t column = 0
    cdef float value = 0
    cdef uint32_t stamp = <uint32_t>items.size()
    cdef int more
    if not scan.open_object():
        return False
    more = next_column(scan, columns, place, stamp, &column, True)
    while more > 0:
        if not scan.real32(&value):
            return False
        items.set(column, value)
        more = next_column(scan, columns, place, stamp, &column, False)
    return more == 0


cdef inline bool scan_item_id(Scanner* scan, RankFields* fields, Candidates* items) noexcept nogil:
    cdef Id item
    if not read_id(scan, &item):
        return False
    if items.size() == 1:
        fields.strings = item.is_string
    elif fields.strings != item.is_string:
        scan.fault("integers and strings in one request: ids of all items must be of one kind")
        return False
    items.identify(item.number, item.token)
    return True


cdef inline bool scan_item_object(Scanner* scan, RankFields* fields, Columns* columns,
                                  Place* place, Candidates* items) noexcept nogil:
    cdef uint32_t seen = 0
    cdef int which = 0
    cdef int more
    if not scan.open_object():
        return False
    more = next_member(scan, kItemMembers, place, &seen, &which, True)
    while more > 0:
        if which == 0:
            place.within("id")
            if not scan_item_id(scan, fields, items):
                return False
        else:
            place.within("features")
            if not scan_features(scan, columns, place, items):
                return False
        place.within(NULL)
        more = next_member(scan, kItemMembers, place, &seen, &which, False)
    if more == 0 and not seen & 1:
        place.within("id")
        scan.fault("is missing")
        return False
    return more == 0


cdef inline bool scan_items(Scanner* scan, RankFields* fields, Columns* columns, Place* place,
                            Candidates* items, size_t limit) noexcept nogil:
    cdef int more
    cdef bool good
    if not scan.open_array():
        return False
    more = scan.element(True)
    while more > 0:
        if items.size() == limit:
            place.at("items")
            scan.fault("too many items")
            return False
        place.element(<long long>items.size())
        items.add()
        if scan.peek() == c"{":
            good = scan_item_object(scan, fields, columns, place, items)
        else:
            good = scan_item_id(scan, fields, items)
        if not good:
            return False
        more = scan.element(False)
    return more == 0


cdef inline bool scan_top_k(Scanner* scan, RankFields* fields) noexcept nogil:
    if not scan.integer(&fields.top_k):
        return False
    if fields.top_k == 0:
        scan.fault("must be at least 1 (all items: leave it out)")
    return fields.top_k != 0


cdef inline bool scan_timeout(Scanner* scan, RankFields* fields) noexcept nogil:
    if not scan.real(&fields.timeout_ms):
        return False
    if fields.timeout_ms > 0:
        return True
    scan.fault("must be more than 0")
    return False


cdef inline bool scan_ranker(Scanner* scan, RankFields* fields) noexcept nogil:
    cdef Text name
    if not scan.text(&name):
        return False
    fields.ranker.begin = <uint32_t>name.begin
    fields.ranker.end = <uint32_t>name.end
    return True


cdef inline bool scan_rank_value(int which, Scanner* scan, RankFields* fields, Columns* columns,
                                 Place* place, Candidates* items, size_t limit) noexcept nogil:
    if which == 0:
        return read_id(scan, &fields.user)
    if which == 1:
        return scan_items(scan, fields, columns, place, items, limit)
    if which == 2:
        return scan_ranker(scan, fields)
    if which == 3:
        return scan_top_k(scan, fields)
    if which == 4:
        return scan_timeout(scan, fields)
    return scan.boolean(&fields.explain)


cdef inline bool check_rank(const char* body, Scanner* scan, RankFields* fields, Place* place,
                            Candidates* items) noexcept nogil:
    # What can only be said once the whole body has been read.
    if not fields.seen & 1:
        place.at("user")
        scan.fault("is missing")
    elif not fields.seen & 2:
        place.at("items")
        scan.fault("is missing")
    elif items.size() == 0:
        place.at("items")
        scan.fault("has no items: at least 1 is needed")
    return scan.reason() == NULL


cdef inline bool scan_rank(const char* body, Scanner* scan, RankFields* fields, Columns* columns,
                           Place* place, Candidates* items, size_t limit) noexcept nogil:
    cdef int which = 0
    cdef int more
    if not scan.open_object():
        return False
    more = next_member(scan, kRankMembers, place, &fields.seen, &which, True)
    while more > 0:
        place.at(kRankMembers.names[which])
        if not scan_rank_value(which, scan, fields, columns, place, items, limit):
            return False
        place.at(NULL)
        more = next_member(scan, kRankMembers, place, &fields.seen, &which, False)
    if more < 0 or not scan.finish():
        return False
    return check_rank(body, scan, fields, place, items)

# The schema of POST /v1/events over the scanner: leaves without GIL and without Python objects.
#
# {"events"?: [{"user": id, "item": id, "type": name | "types": [name, ...], "t_ms"?: int}, ...],
#  "users"?: [{"id": id, "attributes": {name: number}}, ...]}
#
# Every function returns 0 after a fault, which the scanner and the place remember.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.vector cimport vector

from json_rank cimport Columns, column_of, next_column
from json_scan cimport (
    Id, Place, Scanner, Text, Unknown, kEventMembers, kEventsMembers, kUserMembers, next_member,
    read_id,
)


cdef struct Event:
    Id user
    Id item
    int64_t t_ms
    uint16_t types


cdef struct Attribute:
    size_t user  # position in EventFields.users
    size_t column
    float value


cdef struct EventSchema:
    Columns types  # no stamps: bits say what came twice
    Columns attributes
    size_t limit  # most events, and most users


cdef struct EventFields:
    vector[Event] events
    vector[Id] users
    vector[Attribute] attributes
    uint32_t seen


cdef inline bool scan_type(Scanner* scan, EventSchema* schema, Place* place,
                           Event* event) noexcept nogil:
    cdef Text name
    cdef size_t column
    if not scan.text(&name):
        return False
    column = column_of(&name, schema.types.names, schema.types.count, 0)
    if column == schema.types.count:
        place.name = name
        place.unknown = Unknown.kType
        scan.fault("unknown event type")
        return False
    if event.types >> column & 1:
        scan.fault("names a type twice")
        return False
    event.types |= <uint16_t>(1 << column)
    return True


cdef inline bool scan_types(Scanner* scan, EventSchema* schema, Place* place,
                            Event* event) noexcept nogil:
    cdef int more
    if not scan.open_array():
        return False
    more = scan.element(True)
    while more > 0:
        if not scan_type(scan, schema, place, event):
            return False
        more = scan.element(False)
    if more == 0 and event.types == 0:
        scan.fault("has no types: at least 1 is needed")
        return False
    return more == 0


cdef inline bool scan_time(Scanner* scan, Event* event) noexcept nogil:
    cdef uint64_t t_ms = 0
    if not scan.integer(&t_ms):
        return False
    if t_ms >> 63:
        scan.fault("must be milliseconds since 1970, less than 2^63")
        return False
    event.t_ms = <int64_t>t_ms
    return True


cdef inline bool scan_event_value(int which, Scanner* scan, EventSchema* schema, Place* place,
                                  Event* event) noexcept nogil:
    if which == 0:
        return read_id(scan, &event.user)
    if which == 1:
        return read_id(scan, &event.item)
    if which == 2:
        return scan_type(scan, schema, place, event)
    if which == 3:
        return scan_types(scan, schema, place, event)
    return scan_time(scan, event)


cdef inline bool check_event(uint32_t seen, Scanner* scan, Place* place) noexcept nogil:
    if not seen & 1:
        place.within("user")
        scan.fault("is missing")
    elif not seen & 2:
        place.within("item")
        scan.fault("is missing")
    elif not seen & 12:
        place.within("type")
        scan.fault("is missing (or 'types')")
    elif seen & 12 == 12:
        place.within("types")
        scan.fault("must not come beside 'type'")
    return scan.reason() == NULL


cdef inline bool scan_event(Scanner* scan, EventSchema* schema, Place* place,
                            Event* event) noexcept nogil:
    cdef uint32_t seen = 0
    cdef int which = 0
    cdef int more
    if not scan.open_object():
        return False
    more = next_member(scan, kEventMembers, place, &seen, &which, True)
    while more > 0:
        place.within(kEventMembers.names[which])
        if seen & 12 == 12:
            break
        if not scan_event_value(which, scan, schema, place, event):
            return False
        place.within(NULL)
        more = next_member(scan, kEventMembers, place, &seen, &which, False)
    return more >= 0 and check_event(seen, scan, place)


cdef inline int scan_events(Scanner* scan, EventSchema* schema, Place* place,
                            EventFields* fields) except -1 nogil:
    cdef Event event
    cdef int more
    if not scan.open_array():
        return 0
    more = scan.element(True)
    while more > 0:
        if fields.events.size() == schema.limit:
            place.at("events")
            scan.fault("too many events")
            return 0
        place.element(<int64_t>fields.events.size())
        event.t_ms = -1
        event.types = 0
        if not scan_event(scan, schema, place, &event):
            return 0
        fields.events.push_back(event)
        more = scan.element(False)
    return more == 0


cdef inline int scan_attributes(Scanner* scan, EventSchema* schema, Place* place,
                                EventFields* fields) except -1 nogil:
    cdef Attribute attribute
    cdef size_t column = 0
    cdef uint32_t stamp = <uint32_t>fields.users.size()
    cdef int more
    attribute.user = fields.users.size() - 1
    if not scan.open_object():
        return 0
    more = next_column(scan, &schema.attributes, place, stamp, &column, True)
    while more > 0:
        attribute.column = column
        if not scan.real32(&attribute.value):
            return 0
        fields.attributes.push_back(attribute)
        more = next_column(scan, &schema.attributes, place, stamp, &column, False)
    return more == 0


cdef inline int scan_user(Scanner* scan, EventSchema* schema, Place* place,
                          EventFields* fields) except -1 nogil:
    cdef uint32_t seen = 0
    cdef int which = 0
    cdef int more
    if not scan.open_object():
        return 0
    more = next_member(scan, kUserMembers, place, &seen, &which, True)
    while more > 0:
        place.within(kUserMembers.names[which])
        if which == 0 and not read_id(scan, &fields.users.back()):
            return 0
        if which == 1 and not scan_attributes(scan, schema, place, fields):
            return 0
        place.within(NULL)
        more = next_member(scan, kUserMembers, place, &seen, &which, False)
    if more == 0 and seen != 3:
        place.within("attributes" if seen & 1 else "id")
        scan.fault("is missing")
        return 0
    return more == 0


cdef inline int scan_users(Scanner* scan, EventSchema* schema, Place* place,
                           EventFields* fields) except -1 nogil:
    cdef Id user
    cdef int more
    if not scan.open_array():
        return 0
    more = scan.element(True)
    while more > 0:
        if fields.users.size() == schema.limit:
            place.at("users")
            scan.fault("too many users")
            return 0
        place.element(<int64_t>fields.users.size())
        fields.users.push_back(user)
        if not scan_user(scan, schema, place, fields):
            return 0
        more = scan.element(False)
    return more == 0


cdef inline int scan_events_body(Scanner* scan, EventSchema* schema, Place* place,
                                 EventFields* fields) except -1 nogil:
    cdef int which = 0
    cdef int more
    if not scan.open_object():
        return 0
    more = next_member(scan, kEventsMembers, place, &fields.seen, &which, True)
    while more > 0:
        place.at(kEventsMembers.names[which])
        if which == 0 and not scan_events(scan, schema, place, fields):
            return 0
        if which == 1 and not scan_users(scan, schema, place, fields):
            return 0
        place.at(NULL)
        more = next_member(scan, kEventsMembers, place, &fields.seen, &which, False)
    if more < 0 or not scan.finish():
        return 0
    if fields.events.size() + fields.users.size() == 0:
        place.at("events")
        scan.fault("nothing to record: no events and no users")
        return 0
    return 1

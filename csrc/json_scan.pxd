# What the Cython side sees of the json_*.hpp headers. All of it is noexcept and needs no GIL.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.string cimport string


cdef extern from "json_scan.hpp" namespace "predawn" nogil:
    cdef cppclass Text:
        const char* data
        size_t size
        size_t begin
        size_t end

    cdef cppclass TextReader:
        pass

    cdef cppclass Scanner:
        void start(const char* data, size_t size) noexcept
        char peek() noexcept
        bool open_object() noexcept
        bool open_array() noexcept
        int member(Text* name, bool first) noexcept
        int element(bool first) noexcept
        bool text "string"(Text* text) noexcept
        bool integer(uint64_t* out) noexcept
        bool real(double* out) noexcept
        bool real32(float* out) noexcept
        bool boolean(bool* out) noexcept
        bool finish() noexcept
        int fault(const char* reason) noexcept
        const char* reason() noexcept
        size_t at() noexcept


cdef extern from "siphash.hpp" namespace "predawn" nogil:
    cdef cppclass SipKey:
        pass
    SipKey sip_key(const void* data) noexcept


cdef extern from "json_ids.hpp" namespace "predawn" nogil:
    cdef cppclass Span:
        uint32_t begin
        uint32_t end

    cdef cppclass Id:
        uint64_t number
        Span token
        bool is_string

    cdef cppclass Names:
        const char** names
        int count

    cdef enum class Unknown(int):
        kNothing
        kMember
        kColumn
        kType

    cdef cppclass Place:
        const char* member
        int64_t index
        const char* leaf
        Text name
        Unknown unknown
        const Names* known
        void at(const char* member) noexcept
        void element(int64_t index) noexcept
        void within(const char* leaf) noexcept

    Text text_of(const char* body, Span token, TextReader* reader) noexcept
    bool read_id(Scanner* scan, Id* id) noexcept
    int next_member(Scanner* scan, const Names& known, Place* place, uint32_t* seen, int* which,
                    bool first) noexcept
    void write_string(const char* text, size_t size, string* out) noexcept
    const Names kRankMembers
    const Names kItemMembers
    const Names kEventsMembers
    const Names kEventMembers
    const Names kUserMembers


cdef extern from "json_items.hpp" namespace "predawn" nogil:
    cdef cppclass Twins:
        size_t first
        size_t second

    cdef cppclass Candidates:
        void start(size_t features) noexcept
        void add() noexcept
        void identify(uint64_t number, Span token) noexcept
        void set(size_t column, float value) noexcept
        size_t size() noexcept
        const uint64_t* hashes() noexcept
        const float* features() noexcept
        Twins twins(const char* body, bool strings) noexcept
        void pair_keys(const char* body, bool strings, const uint64_t* user, const char* user_text,
                       size_t user_size, SipKey key, uint64_t* keys) noexcept
        bool write(const char* body, const int64_t* order, size_t count, const float* scores,
                   string* out) noexcept

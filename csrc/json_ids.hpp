// Ids and names of a request body: how they are read, and where in the body the schema stands.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "json_scan.hpp"
#include "json_text.hpp"
#include "siphash.hpp"

namespace predawn {

// A token of the body, with its quotes if it is a string.
struct Span {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

// What `token`, a valid string of `body`, says.
inline Text text_of(const char* body, Span token, TextReader* reader) noexcept {
  Text text;
  const char* at = nullptr;
  const char* reason = nullptr;
  (void)reader->read(body + token.begin + 1, body + token.end, &text, &at, &reason);
  return text;
}

// An id as it stands in the body. number: the integer, or the string's stable hash.
struct Id {
  std::uint64_t number = 0;
  Span token;
  bool is_string = false;
};

[[nodiscard]] inline bool read_id(Scanner* scan, Id* id) noexcept {
  Text text;
  if (!scan->id(&id->number, &text, &id->is_string)) return false;
  id->token = {static_cast<std::uint32_t>(text.begin), static_cast<std::uint32_t>(text.end)};
  if (id->is_string) id->number = stable_hash(text.data, text.size);
  return true;
}

// The members an object may have, in a fixed order.
struct Names {
  const char* const* names;
  int count;
};

// Position of `name` among `known`, or -1.
[[nodiscard]] inline int index_of(const Text& name, const Names& known) noexcept {
  for (int i = 0; i < known.count; ++i) {
    const char* candidate = known.names[i];
    if (std::strlen(candidate) == name.size && std::memcmp(candidate, name.data, name.size) == 0) {
      return i;
    }
  }
  return -1;
}

// Which list an unknown name should have come from.
enum class Unknown : int { kNothing, kMember, kColumn, kType };

// The JSON path that the schema is at: member[index].leaf.name. On a fault it is the field named
// in the error, so it is kept up to date as the scan goes on; `name` lasts until the next string.
struct Place {
  const char* member = nullptr;
  std::int64_t index = -1;
  const char* leaf = nullptr;
  Text name;
  Unknown unknown = Unknown::kNothing;
  const Names* known = nullptr;

  void at(const char* new_member) noexcept {
    member = new_member;
    index = -1;
    leaf = nullptr;
    name = Text{};
  }
  void element(std::int64_t new_index) noexcept {
    index = new_index;
    leaf = nullptr;
    name = Text{};
  }
  void within(const char* new_leaf) noexcept {
    leaf = new_leaf;
    name = Text{};
  }
};

// The next member of an object whose names are `known`: its position in `*which`, 1, 0 at the
// end, -1 on a fault. `*seen` has a bit for each member that was there: none may come twice.
[[nodiscard]] inline int next_member(Scanner* scan, const Names& known, Place* place,
                                     std::uint32_t* seen, int* which, bool first) noexcept {
  Text name;
  const int more = scan->member(&name, first);
  if (more <= 0) return more;
  *which = index_of(name, known);
  if (*which < 0) {
    place->name = name;
    place->unknown = Unknown::kMember;
    place->known = &known;
    return scan->fault("unknown member");
  }
  const std::uint32_t bit = 1U << *which;
  if ((*seen & bit) != 0) {
    place->name = name;
    return scan->fault("comes twice");
  }
  *seen |= bit;
  return 1;
}

// `text` as a JSON string, with its quotes. Valid UTF-8 goes through as it is.
inline void write_string(const char* text, std::size_t size, std::string* out) noexcept {
  constexpr const char* kHex = "0123456789abcdef";
  out->push_back('"');
  for (std::size_t i = 0; i < size; ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20) {
      out->append("\\u00").push_back(kHex[c >> 4]);
      out->push_back(kHex[c & 0xFU]);
      continue;
    }
    if (c == '"' || c == '\\') out->push_back('\\');
    out->push_back(text[i]);
  }
  out->push_back('"');
}

inline constexpr const char* kRankList[] = {"user",  "items",      "ranker",
                                            "top_k", "timeout_ms", "explain"};
inline constexpr Names kRankMembers{kRankList, 6};
inline constexpr const char* kItemList[] = {"id", "features"};
inline constexpr Names kItemMembers{kItemList, 2};
inline constexpr const char* kEventsList[] = {"events", "users"};
inline constexpr Names kEventsMembers{kEventsList, 2};
inline constexpr const char* kEventList[] = {"user", "item", "type", "types", "t_ms"};
inline constexpr Names kEventMembers{kEventList, 5};
inline constexpr const char* kUserList[] = {"id", "attributes"};
inline constexpr Names kUserMembers{kUserList, 2};

}  // namespace predawn

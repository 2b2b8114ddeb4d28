// Keys of user-item pairs whose user is a string: 128 bits under a table's secret.
//
// What: `pair_keys`: SipHash-128 of the user's UTF-8 bytes followed by the item's eight. The last
//   eight bytes of a message are its item and the rest is its user, so no two pairs read the same.
// When not: pairs of an integer user, whose key is (user, item) as it is.
// Functions: pure; keys are written where the caller says.
// Design: one message whose last eight bytes change from item to item.
// Memory: a copy of the user's text. Cost: about 40 ns an item.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "key.hpp"
#include "siphash.hpp"

namespace predawn {

// `keys` has room for one key per item.
inline void pair_keys(SipKey secret, const char* user, std::size_t size,
                      std::span<const std::uint64_t> items, Key* keys) {
  std::string message(user, size);
  message.resize(size + sizeof(std::uint64_t));
  for (const std::uint64_t item : items) {
    std::uint64_t word = item;
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    std::memcpy(message.data() + size, &word, sizeof word);
    const Hash128 hash = siphash128(secret, message.data(), message.size());
    *keys++ = {hash.lo, hash.hi};
  }
}

}  // namespace predawn
